locals {
  # Of one execution environment.
  vcpus = var.memory_size / 1024 / var.memory_gib_per_vcpu

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
    architectures = [var.architecture]
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

  # Lambda needs the operator role's permissions until the last instance is gone.
  depends_on = [aws_iam_role_policy_attachment.operator_policy, aws_iam_role_policy.operator_kms]

  lifecycle {
    # Other subnets replace the provider, and with it every instance: never because somebody added a subnet to the VPC.
    ignore_changes = [vpc_config[0].subnet_ids]

    precondition {
      condition     = length(local.subnet_ids_by_zone) >= 2
      error_message = "The capacity provider needs subnets in two Availability Zones or more; ${length(var.subnet_ids) > 0 ? "those of subnet_ids" : "the private subnets of ${var.vpc_id}"} are in: ${length(local.subnet_ids_by_zone) > 0 ? join(", ", keys(local.subnet_ids_by_zone)) : "none"}. Set subnet_ids to subnets in different zones, or vpc_id and region to where they are."
    }

    precondition {
      condition     = alltrue([for subnet in data.aws_subnet.candidate : subnet.vpc_id == var.vpc_id])
      error_message = "Every subnet of subnet_ids must be in ${var.vpc_id}, where the security group is: set vpc_id to the subnets' VPC."
    }

    postcondition {
      condition     = length(var.subnet_ids) == 0 || self.vpc_config[0].subnet_ids == var.subnet_ids
      error_message = "The capacity provider has the subnets ${join(", ", self.vpc_config[0].subnet_ids)}, and others only if it is replaced, function included (minutes without service). If that is meant, apply with -replace='aws_lambda_capacity_provider.main[0]'; otherwise leave subnet_ids as they were."
    }
  }
}

# Updated when the capacity provider is replaced (its ARN is unknown for the plan), and not when its ceiling changes.
# The function refers to this, because replace_triggered_by is an error for a resource that is not there.
resource "terraform_data" "capacity_provider" {
  input = one(aws_lambda_capacity_provider.main[*].arn)
}

resource "aws_lambda_function" "fibonacci" {
  #checkov:skip=CKV_AWS_50:the happy path is one reply from memory; there is nothing to trace
  #checkov:skip=CKV_AWS_115:the scaling configuration and the vCPU ceiling limit it
  #checkov:skip=CKV_AWS_116:called synchronously; an asynchronous call has no result that could be lost
  #checkov:skip=CKV_AWS_117:the VPC is the capacity provider's; Lambda refuses another one here
  #checkov:skip=CKV_AWS_272:code signing needs a signing profile, which is the account's to decide

  function_name = var.function_name
  role          = aws_iam_role.lambda_role.arn

  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  filename      = var.filename
  # A missing file is the precondition's to report.
  source_code_hash = fileexists(var.filename) ? filebase64sha256(var.filename) : null

  memory_size = var.memory_size
  timeout     = var.timeout

  # Invocations without a qualifier go to $LATEST.PUBLISHED. publish_to alone publishes on creation only;
  # publish alone makes a numbered version per change, each with its own running environments.
  publish    = true
  publish_to = "LATEST_PUBLISHED"

  capacity_provider_config {
    lambda_managed_instances_capacity_provider_config {
      capacity_provider_arn                     = local.capacity_provider_arn
      execution_environment_memory_gib_per_vcpu = var.memory_gib_per_vcpu
      per_execution_environment_max_concurrency = coalesce(var.max_concurrency, 8 * local.vcpus)
    }
  }

  logging_config {
    log_format       = "JSON" # the only one on Managed Instances
    log_group        = aws_cloudwatch_log_group.function.name
    system_log_level = "WARN" # at INFO, Lambda's default, each invocation is reported
  }

  # A publish waits for instances.
  timeouts {
    create = "30m"
    update = "30m"
    delete = "30m"
  }

  depends_on = [aws_iam_role_policy.logs]

  lifecycle {
    # A capacity provider with a function on it cannot be deleted, and its name is taken until it is.
    replace_triggered_by = [terraform_data.capacity_provider]

    precondition {
      condition     = fileexists(var.filename)
      error_message = "There is no ${var.filename}: build it in the repository's root with `cargo lambda build --release --${var.architecture == "arm64" ? "arm64" : "x86-64"} --output-format zip`."
    }
  }
}

# Waits until the published version takes a scaling configuration, so an apply ends after the publish has.
resource "aws_lambda_function_scaling_config" "latest_published" {
  function_name = aws_lambda_function.fibonacci.function_name
  qualifier     = "$LATEST.PUBLISHED"

  function_scaling_config {
    # Both, because Lambda resets the one that is left out.
    min_execution_environments = var.min_execution_environments
    max_execution_environments = coalesce(var.max_execution_environments, floor(var.capacity_provider_max_vcpu / local.vcpus))
  }

  timeouts {
    create = "30m"
    update = "30m"
    delete = "30m"
  }

  lifecycle {
    # It goes with a function that is replaced, though its arguments stay the same.
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}

resource "aws_lambda_function_url" "main" {
  count = var.create_function_url ? 1 : 0

  function_name      = aws_lambda_function.fibonacci.function_name
  authorization_type = "AWS_IAM"

  # A URL of the unqualified function is one of $LATEST.PUBLISHED, which must be there.
  depends_on = [aws_lambda_function_scaling_config.latest_published]

  lifecycle {
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}
