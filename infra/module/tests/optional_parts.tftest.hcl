# Each part that can be switched, on and off.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "creates_no_optional_part_by_default_except_monitoring" {
  command = plan

  assert {
    condition     = length(aws_lambda_function_url.main) == 0 && output.function_url == null
    error_message = "A Function URL must be requested."
  }

  assert {
    condition     = length(aws_vpc_endpoint.logs) == 0 && length(aws_security_group.logs_endpoint) == 0
    error_message = "An endpoint changes the name resolution of the whole VPC."
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].kms_key_arn == null && aws_cloudwatch_log_group.function.kms_key_id == null && aws_cloudwatch_log_group.capacity_provider[0].kms_key_id == null
    error_message = "Without given keys, AWS's keys are used."
  }

  assert {
    condition = length(concat(
      aws_scheduler_schedule_group.scaling, values(aws_scheduler_schedule.scaling), aws_iam_role.scheduler, aws_iam_role_policy.scheduler, aws_cloudwatch_metric_alarm.schedules,
    )) == 0
    error_message = "Without schedules nothing changes the number of environments."
  }

  assert {
    condition     = length(aws_lambda_function.fibonacci.environment) == 0
    error_message = "The function needs no environment variables."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.lambda_role[0], aws_iam_role.capacity_provider_operator[0]] : role.path == "/" && role.permissions_boundary == null])
    error_message = "Path and boundary must be requested."
  }

  assert {
    condition     = aws_lambda_function.fibonacci.filename == "versions.tf" && aws_lambda_function.fibonacci.s3_bucket == null && aws_lambda_function.fibonacci.s3_key == null
    error_message = "The zip must be the local file."
  }
}

run "gives_a_function_url_to_callers_with_iam_credentials" {
  command = plan

  variables {
    create_function_url = true
  }

  assert {
    condition     = aws_lambda_function_url.main[0].authorization_type == "AWS_IAM"
    error_message = "A public URL would let anybody spend the account's money."
  }

  assert {
    condition     = aws_lambda_function_url.main[0].qualifier == null && aws_lambda_function_url.main[0].function_name == "fibonacci-generator"
    error_message = "Lambda accepts no version as the qualifier of a URL; without one it is $LATEST.PUBLISHED."
  }
}

run "admits_pages_of_other_origins_to_the_function_url" {
  command = plan

  variables {
    create_function_url = true
    function_url_cors   = { allow_origins = ["https://example.com"], allow_methods = ["GET"], max_age = 60 }
  }

  assert {
    condition     = aws_lambda_function_url.main[0].cors[0].allow_origins == toset(["https://example.com"]) && aws_lambda_function_url.main[0].cors[0].allow_methods == toset(["GET"]) && aws_lambda_function_url.main[0].cors[0].max_age == 60
    error_message = "The URL must have all that is given."
  }
}

run "runs_with_an_existing_role" {
  command = plan

  variables {
    execution_role_arn = "arn:aws:iam::123456789012:role/platform/lambda-execution"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.role == "arn:aws:iam::123456789012:role/platform/lambda-execution" && output.execution_role_name == "lambda-execution"
    error_message = "The function must have the role."
  }

  assert {
    condition     = length(aws_iam_role.lambda_role) == 0 && length(aws_iam_role_policy.logs) == 0
    error_message = "No other role is created, and somebody else's stays as it is."
  }
}

run "protects_the_logs" {
  command = plan

  variables {
    log_deletion_protection_enabled = true
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.deletion_protection_enabled && aws_cloudwatch_log_group.capacity_provider[0].deletion_protection_enabled
    error_message = "Both log groups must be protected."
  }
}

run "makes_an_endpoint_for_logs_in_one_subnet_per_zone" {
  command = plan

  variables {
    create_logs_endpoint = true
    subnet_ids           = ["subnet-0a000001", "subnet-0a000002", "subnet-0c000001"]
  }

  assert {
    condition     = aws_vpc_endpoint.logs[0].vpc_endpoint_type == "Interface" && aws_vpc_endpoint.logs[0].subnet_ids == toset(["subnet-0a000001", "subnet-0c000001"])
    error_message = "An interface endpoint accepts one subnet per zone."
  }
}

run "scales_at_a_given_utilization" {
  command = plan

  variables {
    scaling_mode           = "Manual"
    target_cpu_utilization = 30
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].scaling_mode == "Manual"
    error_message = "Only Manual follows a policy."
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].scaling_policies[0] == { predefined_metric_type = "LambdaCapacityProviderAverageCPUUtilization", target_value = 30 }
    error_message = "The policy must name Lambda's one metric and the target."
  }
}

run "encrypts_with_given_keys" {
  command = plan

  variables {
    kms_key_arn      = "arn:aws:kms:us-east-1:123456789012:key/volumes"
    logs_kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/logs"
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].kms_key_arn == "arn:aws:kms:us-east-1:123456789012:key/volumes"
    error_message = "The volumes must have their key."
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.kms_key_id == "arn:aws:kms:us-east-1:123456789012:key/logs" && aws_cloudwatch_log_group.capacity_provider[0].kms_key_id == aws_cloudwatch_log_group.function.kms_key_id
    error_message = "The log groups must have their key."
  }

  assert {
    condition = jsonencode(jsondecode(aws_iam_role_policy.operator_kms[0].policy).Statement) == jsonencode([
      {
        Effect   = "Allow"
        Action   = "kms:DescribeKey"
        Resource = "arn:aws:kms:us-east-1:123456789012:key/volumes"
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"]
        Resource  = "arn:aws:kms:us-east-1:123456789012:key/volumes"
        Condition = { StringEquals = { "kms:ViaService" = "ec2.us-east-1.amazonaws.com" } }
      },
      {
        Effect   = "Allow"
        Action   = "kms:CreateGrant"
        Resource = "arn:aws:kms:us-east-1:123456789012:key/volumes"
        Condition = {
          StringEquals = { "kms:ViaService" = "ec2.us-east-1.amazonaws.com" }
          Bool         = { "kms:GrantIsForAWSResource" = "true" }
        }
      },
    ])
    error_message = "The operator role may use this key and no other, through EC2 only, and grant it to AWS's services only."
  }
}

run "runs_on_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.capacity_provider_config[0].lambda_managed_instances_capacity_provider_config[0].capacity_provider_arn == "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    error_message = "The function must be attached to the provider given."
  }

  assert {
    condition = length(concat(
      aws_lambda_capacity_provider.main, aws_iam_role.capacity_provider_operator, aws_iam_role_policy_attachment.operator_policy,
      aws_security_group.lambda_managed_instances, aws_cloudwatch_log_group.capacity_provider, aws_cloudwatch_metric_alarm.instances, values(data.aws_subnet.candidate), values(data.aws_route_table.vpc),
    )) == 0
    error_message = "No provider, role or security group is created, and no subnets are looked up."
  }

  assert {
    condition     = output.capacity_provider_name == "shared" && output.operator_role_arn == null && output.security_group_id == null
    error_message = "The outputs must be the provider's name, and null for what does not exist here."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.concurrency[0].metric_query != null && strcontains(jsonencode(aws_cloudwatch_metric_alarm.concurrency[0].metric_query), "\"CapacityProviderName\":\"shared\"")
    error_message = "The metrics are those of the provider given."
  }
}

run "leaves_out_the_monitoring" {
  command = plan

  variables {
    create_monitoring = false
  }

  assert {
    condition = length(concat(
      aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.throttles, aws_cloudwatch_metric_alarm.duration,
      aws_cloudwatch_metric_alarm.concurrency, values(aws_cloudwatch_metric_alarm.utilization), aws_cloudwatch_metric_alarm.environments, aws_cloudwatch_metric_alarm.instances,
      aws_cloudwatch_log_metric_filter.instances, aws_cloudwatch_dashboard.main,
    )) == 0 && output.dashboard_url == null
    error_message = "There must be no alarms and no dashboard."
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.retention_in_days == 30
    error_message = "The log group must stay."
  }
}

run "switches_pipelining_off" {
  command = plan

  variables {
    runtime_api_pipelining = false
  }

  assert {
    condition     = aws_lambda_function.fibonacci.environment[0].variables == tomap({ RUNTIME_API_PIPELINING = "off" })
    error_message = "The function reads this variable."
  }
}

run "deploys_the_zip_from_s3" {
  command = plan

  variables {
    filename  = "../target/no-such.zip"
    s3_object = { bucket = "artefacts", key = "fibonacci-generator/0123456789abcdef.zip", version = "v1" }
  }

  assert {
    condition     = aws_lambda_function.fibonacci.filename == null && [aws_lambda_function.fibonacci.s3_bucket, aws_lambda_function.fibonacci.s3_key, aws_lambda_function.fibonacci.s3_object_version] == ["artefacts", "fibonacci-generator/0123456789abcdef.zip", "v1"]
    error_message = "No local file is needed, and all three arguments must name the object."
  }
}

run "deploys_the_zip_from_s3_without_a_version" {
  command = plan

  variables {
    s3_object = { bucket = "artefacts", key = "fibonacci-generator/0123456789abcdef.zip" }
  }

  assert {
    condition     = aws_lambda_function.fibonacci.s3_object_version == null
    error_message = "In a bucket without versioning, the key identifies the zip."
  }
}

run "gives_every_role_the_path_and_the_boundary" {
  command = plan

  variables {
    iam_path                 = "/platform/lambda/"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
    scaling_schedules = {
      morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  assert {
    condition = alltrue([
      for role in [aws_iam_role.lambda_role[0], aws_iam_role.capacity_provider_operator[0], aws_iam_role.scheduler[0]] :
      role.path == "/platform/lambda/" && role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    ])
    error_message = "An account that requires them requires them for all roles."
  }
}

run "launches_allowed_instance_types_only" {
  command = plan

  variables {
    allowed_instance_types = ["c7i.xlarge", "c7i.2xlarge"]
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].instance_requirements[0].allowed_instance_types == tolist(["c7i.2xlarge", "c7i.xlarge"]) && aws_lambda_capacity_provider.main[0].instance_requirements[0].excluded_instance_types == null
    error_message = "Both types must be allowed, and no other."
  }
}

run "launches_no_excluded_instance_types" {
  command = plan

  variables {
    excluded_instance_types = ["c5.*"]
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].instance_requirements[0].excluded_instance_types == tolist(["c5.*"]) && aws_lambda_capacity_provider.main[0].instance_requirements[0].allowed_instance_types == null
    error_message = "All types but these must be allowed."
  }
}

run "links_to_the_console_of_the_partition" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001", "subnet-0b000001"]
  }

  override_data {
    target = data.aws_region.current
    values = { region = "eusc-de-east-1" }
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-eusc" }
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0a000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eusc-de-east-1a" }
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0b000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eusc-de-east-1b" }
  }

  assert {
    condition     = startswith(output.dashboard_url, "https://eusc-de-east-1.console.amazonaws-eusc.eu/cloudwatch/home?region=eusc-de-east-1#dashboards/dashboard/fibonacci-generator-eusc-de-east-1")
    error_message = "Each partition has a console of its own."
  }

  assert {
    condition     = aws_iam_role_policy_attachment.operator_policy[0].policy_arn == "arn:aws-eusc:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
    error_message = "Each partition has ARNs of its own."
  }
}

run "links_to_no_console_that_it_does_not_know" {
  command = plan

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-iso" }
  }

  assert {
    condition     = output.dashboard_url == null
    error_message = "A wrong link is worse than none."
  }
}
