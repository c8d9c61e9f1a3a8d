# What the module's variables mean, their defaults and limits: module/variables.tf. null stands for the module's default.

variable "region" {
  description = "AWS Region to deploy to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of a Region, such as us-east-1, not \"${var.region}\"."
  }
}

variable "tags" {
  description = "Tags for every resource that Terraform creates, in addition to Application and ManagedBy. README.md shows how to tag the instances."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.tags) <= 48 && alltrue([for key, value in var.tags : can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", key)) && !startswith(lower(key), "aws:") && can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{0,256}$", value))])
    error_message = "tags must be at most 48, with keys of 1 to 128 characters that do not begin with aws:, and values of at most 256 characters. Letters, digits, spaces and _.:/=+@- are allowed."
  }

  validation {
    # IAM ignores case: a role cannot have both tags.
    condition     = length(distinct([for key in concat(keys(var.tags), ["Application", "ManagedBy"]) : lower(key)])) == length(setunion(keys(var.tags), ["Application", "ManagedBy"]))
    error_message = "The keys of tags must differ in more than upper and lower case, from Application and ManagedBy too."
  }
}

variable "function_name" {
  type     = string
  default  = "fibonacci-generator"
  nullable = false
}

variable "filename" {
  type     = string
  default  = "../target/lambda/fibonacci-generator/bootstrap.zip"
  nullable = false
}

variable "vpc_id" {
  type    = string
  default = null
}

variable "s3_object" {
  type    = map(string)
  default = null
}

variable "architecture" {
  type    = string
  default = null
}

variable "memory_size" {
  type    = number
  default = null
}

variable "memory_gib_per_vcpu" {
  type    = number
  default = null
}

variable "max_concurrency" {
  type    = number
  default = null
}

variable "timeout" {
  type    = number
  default = null
}

variable "runtime_api_pipelining" {
  type    = bool
  default = null
}

variable "min_execution_environments" {
  type    = number
  default = null
}

variable "max_execution_environments" {
  type    = number
  default = null
}

variable "scaling_schedules" {
  type = map(object({
    cron                       = string
    time_zone                  = optional(string)
    min_execution_environments = number
    max_execution_environments = number
  }))
  default = null
}

variable "capacity_provider_max_vcpu" {
  type    = number
  default = null
}

variable "scaling_mode" {
  type    = string
  default = null
}

variable "target_cpu_utilization" {
  type    = number
  default = null
}

variable "allowed_instance_types" {
  type    = set(string)
  default = null
}

variable "excluded_instance_types" {
  type    = set(string)
  default = null
}

variable "subnet_ids" {
  type    = set(string)
  default = null
}

variable "excluded_zone_ids" {
  type    = set(string)
  default = null
}

variable "capacity_provider_arn" {
  type    = string
  default = null
}

variable "create_logs_endpoint" {
  type    = bool
  default = null
}

variable "logs_endpoint_exists" {
  type    = bool
  default = null
}

variable "dns_server_cidrs" {
  type    = set(string)
  default = null
}

variable "execution_role_arn" {
  type    = string
  default = null
}

variable "create_function_url" {
  type    = bool
  default = null
}

variable "function_url_cors" {
  type    = any
  default = null
}

variable "create_monitoring" {
  type    = bool
  default = null
}

variable "alarm_topic_arn" {
  type    = string
  default = null
}

variable "log_retention_days" {
  type    = number
  default = null
}

variable "log_deletion_protection_enabled" {
  type    = bool
  default = null
}

variable "kms_key_arn" {
  type    = string
  default = null
}

variable "logs_kms_key_arn" {
  type    = string
  default = null
}

variable "iam_path" {
  type    = string
  default = null
}

variable "permissions_boundary_arn" {
  type    = string
  default = null
}
