# The state of this folder is one deployment of the module, with the backend of backend.tf and the values of terraform.tfvars.

locals {
  tags = merge({ Application = var.function_name, ManagedBy = "Terraform" }, var.tags)
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

module "fibonacci" {
  source = "./module"

  vpc_id                          = var.vpc_id
  function_name                   = var.function_name
  filename                        = var.filename
  s3_object                       = var.s3_object
  architecture                    = var.architecture
  memory_size                     = var.memory_size
  memory_gib_per_vcpu             = var.memory_gib_per_vcpu
  max_concurrency                 = var.max_concurrency
  timeout                         = var.timeout
  runtime_api_pipelining          = var.runtime_api_pipelining
  min_execution_environments      = var.min_execution_environments
  max_execution_environments      = var.max_execution_environments
  scaling_schedules               = var.scaling_schedules
  capacity_provider_max_vcpu      = var.capacity_provider_max_vcpu
  scaling_mode                    = var.scaling_mode
  target_cpu_utilization          = var.target_cpu_utilization
  allowed_instance_types          = var.allowed_instance_types
  excluded_instance_types         = var.excluded_instance_types
  subnet_ids                      = var.subnet_ids
  excluded_zone_ids               = var.excluded_zone_ids
  capacity_provider_arn           = var.capacity_provider_arn
  create_logs_endpoint            = var.create_logs_endpoint
  logs_endpoint_exists            = var.logs_endpoint_exists
  dns_server_cidrs                = var.dns_server_cidrs
  execution_role_arn              = var.execution_role_arn
  create_function_url             = var.create_function_url
  function_url_cors               = var.function_url_cors
  create_monitoring               = var.create_monitoring
  alarm_topic_arn                 = var.alarm_topic_arn
  log_retention_days              = var.log_retention_days
  log_deletion_protection_enabled = var.log_deletion_protection_enabled
  kms_key_arn                     = var.kms_key_arn
  logs_kms_key_arn                = var.logs_kms_key_arn
  iam_path                        = var.iam_path
  permissions_boundary_arn        = var.permissions_boundary_arn
}
