data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.region

  # vCPUs of one execution environment.
  vcpus = var.memory_size / 1024 / var.memory_gib_per_vcpu

  # The smallest instance size from 4 vCPUs on that fits an environment besides the vCPU that each instance reserves.
  vcpus_of_instance = [for size in [4, 8, 16, 32] : size if size > local.vcpus][0]
  # An estimate: Lambda chooses the instance types. Larger instances fit more environments, smaller ones fewer.
  environments_under_ceiling = floor(var.capacity_provider_max_vcpu / local.vcpus_of_instance) * floor((local.vcpus_of_instance - 1) / local.vcpus)

  execution_environments = {
    min_execution_environments = var.min_execution_environments
    max_execution_environments = coalesce(var.max_execution_environments, max(var.min_execution_environments, local.environments_under_ceiling))
  }

  capacity_provider_arn  = local.creates_capacity_provider ? one(aws_lambda_capacity_provider.main[*].arn) : var.capacity_provider_arn
  capacity_provider_name = local.creates_capacity_provider ? "${var.function_name}-capacity-provider" : split(":", var.capacity_provider_arn)[6]
}

resource "aws_lambda_capacity_provider" "main" {
  count = local.creates_capacity_provider ? 1 : 0
  name  = local.capacity_provider_name

  vpc_config {
    subnet_ids         = local.subnet_ids
    security_group_ids = aws_security_group.lambda_managed_instances[*].id
  }

  permissions_config {
    capacity_provider_operator_role_arn = aws_iam_role.capacity_provider_operator[0].arn
  }

  instance_requirements {
    architectures           = [var.architecture]
    allowed_instance_types  = length(var.allowed_instance_types) > 0 ? sort(var.allowed_instance_types) : null
    excluded_instance_types = length(var.excluded_instance_types) > 0 ? sort(var.excluded_instance_types) : null
  }

  capacity_provider_scaling_config {
    scaling_mode   = var.scaling_mode
    max_vcpu_count = var.capacity_provider_max_vcpu
    scaling_policies = var.target_cpu_utilization == null ? null : [{
      predefined_metric_type = "LambdaCapacityProviderAverageCPUUtilization"
      target_value           = var.target_cpu_utilization
    }]
  }

  kms_key_arn = var.kms_key_arn

  # Lambda needs the operator role's permissions until the last instance is gone, and would create the log group without retention if it did not exist.
  depends_on = [aws_iam_role_policy_attachment.operator_policy, aws_iam_role_policy.operator_kms, aws_cloudwatch_log_group.capacity_provider]

  lifecycle {
    # The AWS provider does not replace the capacity provider when its key is removed, and Lambda would keep using the key.
    replace_triggered_by = [terraform_data.volumes_key]

    # Other subnets replace the capacity provider with all its instances. A subnet that somebody adds to the VPC must not do that.
    ignore_changes = [vpc_config[0].subnet_ids]

    precondition {
      condition     = length(local.subnet_ids) > 0
      error_message = "The capacity provider needs a private subnet, and ${var.vpc_id} has none in ${local.region}${length(var.excluded_zone_ids) > 0 ? " outside of excluded_zone_ids" : ""}. Correct vpc_id and region, or set subnet_ids."
    }

    precondition {
      condition     = length(setintersection(local.subnet_ids, local.foreign_subnet_ids)) == 0
      error_message = "Lambda launches no instances in Local Zones, in Wavelength Zones or on Outposts, but these subnets are there: ${join(", ", setintersection(local.subnet_ids, local.foreign_subnet_ids))}. Set subnet_ids to subnets in Availability Zones of ${local.region}."
    }

    precondition {
      condition     = alltrue([for subnet in data.aws_subnet.candidate : subnet.vpc_id == var.vpc_id])
      error_message = "Every subnet of subnet_ids must be in ${var.vpc_id}, where the security group is: set vpc_id to the subnets' VPC."
    }

    postcondition {
      condition     = length(var.subnet_ids) == 0 || self.vpc_config[0].subnet_ids == var.subnet_ids
      error_message = "The capacity provider has the subnets ${join(", ", self.vpc_config[0].subnet_ids)}. To change them, it must be replaced together with the function, which takes minutes without service. If you want that, apply with -replace and the address of this resource; otherwise leave subnet_ids as they were."
    }
  }
}

# In every reported case Lambda launched three instances with four times the vCPUs of an environment. Where they did not fit,
# raising the ceiling afterwards did not help: the capacity provider had to be replaced.
check "first_publish_has_room" {
  assert {
    condition     = !local.creates_capacity_provider || 12 * local.vcpus <= var.capacity_provider_max_vcpu
    error_message = "The first publish may fail: it starts three execution environments, and the instances that Lambda launches for them tend to have ${4 * local.vcpus} vCPUs each. Set capacity_provider_max_vcpu to at least ${12 * local.vcpus}, not ${var.capacity_provider_max_vcpu}, before the first apply."
  }
}

resource "terraform_data" "volumes_key" {
  input = var.kms_key_arn
}

# Updated when the capacity provider is replaced (the plan does not know its new ARN), but not when its ceiling changes.
# The function refers to this because replace_triggered_by cannot name a resource whose count is 0.
resource "terraform_data" "capacity_provider" {
  input = one(aws_lambda_capacity_provider.main[*].arn)
}

locals {
  # The zip in base64. If there is none, the precondition of the function says so.
  zip = var.s3_object == null && try(fileexists(var.filename), false) ? filebase64(var.filename) : null

  # cargo-lambda writes the time of the build into the zip, in bytes 10 to 13 and in the directory at the end.
  # The hash leaves both out (4 characters are 3 bytes), so a build that changes nothing plans nothing.
  # Bytes 15 to 29 are the executable's checksum and sizes.
  code_hash = local.zip == null ? null : base64sha256("${substr(local.zip, 0, 12)}${substr(local.zip, 20, max(0, length(local.zip) - 20 - 108))}")
}

resource "aws_lambda_function" "fibonacci" {
  #checkov:skip=CKV_AWS_50:a reply comes from memory, so there is nothing to trace
  #checkov:skip=CKV_AWS_115:the scaling configuration and the vCPU ceiling limit it
  #checkov:skip=CKV_AWS_116:callers wait for the reply; an example has destinations for asynchronous calls
  #checkov:skip=CKV_AWS_117:the capacity provider has the VPC, and Lambda refuses another one here
  #checkov:skip=CKV_AWS_173:the one environment variable is no secret
  #checkov:skip=CKV_AWS_272:code signing needs a signing profile of the account

  function_name = var.function_name
  role          = local.execution_role_arn

  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]

  filename          = var.s3_object == null ? var.filename : null
  s3_bucket         = try(var.s3_object.bucket, null)
  s3_key            = try(var.s3_object.key, null)
  s3_object_version = try(var.s3_object.version, null)
  source_code_hash  = local.code_hash

  memory_size = var.memory_size
  timeout     = var.timeout

  # Invocations without a qualifier go to $LATEST.PUBLISHED. publish_to alone would publish only on creation.
  # publish alone would add a numbered version with its own environments for every change.
  publish    = true
  publish_to = "LATEST_PUBLISHED"

  capacity_provider_config {
    lambda_managed_instances_capacity_provider_config {
      capacity_provider_arn                     = local.capacity_provider_arn
      execution_environment_memory_gib_per_vcpu = var.memory_gib_per_vcpu
      per_execution_environment_max_concurrency = coalesce(var.max_concurrency, 16 * local.vcpus)
    }
  }

  dynamic "environment" {
    for_each = var.runtime_api_pipelining ? [] : [{ RUNTIME_API_PIPELINING = "off" }]

    content {
      variables = environment.value
    }
  }

  logging_config {
    log_format       = "JSON" # Managed Instances accept no other
    log_group        = aws_cloudwatch_log_group.function.name
    system_log_level = "WARN" # at INFO, the default, Lambda writes lines about each invocation
  }

  # A publish waits for instances.
  timeouts {
    create = "30m"
    update = "30m"
    delete = "30m"
  }

  depends_on = [aws_iam_role_policy.logs]

  lifecycle {
    # A capacity provider that has a function cannot be deleted, and its name is taken until it is.
    replace_triggered_by = [terraform_data.capacity_provider]

    precondition {
      condition     = var.s3_object != null || local.zip != null
      error_message = "There is no ${coalesce(var.filename, "zip")}: build it in the repository's root with `cargo lambda build --release --${var.architecture == "arm64" ? "arm64" : "x86-64"} --output-format zip`."
    }
  }
}

# Holds the time of the apply that creates the scaling configuration.
resource "terraform_data" "scaling_created" {
  input = plantimestamp()

  lifecycle {
    ignore_changes       = [input]
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}

locals {
  # With schedules Terraform sets the bounds only once: null leaves what the last schedule set.
  leaves_scaling = local.scheduled && terraform_data.scaling_created.input != plantimestamp()
}

# Waits until the published version accepts a scaling configuration, so an apply ends after the publish.
resource "aws_lambda_function_scaling_config" "latest_published" {
  function_name = aws_lambda_function.fibonacci.function_name
  qualifier     = "$LATEST.PUBLISHED"

  function_scaling_config {
    # Both, because Lambda resets the one that is left out.
    min_execution_environments = local.leaves_scaling ? null : local.execution_environments.min_execution_environments
    max_execution_environments = local.leaves_scaling ? null : local.execution_environments.max_execution_environments
  }

  timeouts {
    create = "30m"
    update = "30m"
    delete = "30m"
  }

  lifecycle {
    # A function that is replaced loses it, although its arguments stay the same.
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}

resource "aws_lambda_function_url" "main" {
  count = var.create_function_url ? 1 : 0

  function_name      = aws_lambda_function.fibonacci.function_name
  authorization_type = "AWS_IAM"

  dynamic "cors" {
    for_each = var.function_url_cors == null ? [] : [var.function_url_cors]

    content {
      allow_credentials = try(cors.value.allow_credentials, null)
      allow_headers     = try(cors.value.allow_headers, null)
      allow_methods     = try(cors.value.allow_methods, null)
      allow_origins     = try(cors.value.allow_origins, null)
      expose_headers    = try(cors.value.expose_headers, null)
      max_age           = try(cors.value.max_age, null)
    }
  }

  # Without a qualifier the URL invokes $LATEST.PUBLISHED, which must exist.
  depends_on = [aws_lambda_function_scaling_config.latest_published]

  lifecycle {
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}
