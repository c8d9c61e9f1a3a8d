# Each part that can be switched, on and off.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "makes_no_optional_part_by_default_but_the_monitoring" {
  command = plan

  assert {
    condition     = length(aws_lambda_function_url.main) == 0 && output.function_url == null
    error_message = "A URL is asked for, not given."
  }

  assert {
    condition     = length(aws_vpc_endpoint.logs) == 0 && length(aws_security_group.logs_endpoint) == 0
    error_message = "An endpoint changes the name resolution of the whole VPC."
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].kms_key_arn == null && aws_cloudwatch_log_group.function.kms_key_id == null
    error_message = "Without keys of one's own AWS's are used."
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
    error_message = "Lambda takes no version as the qualifier of a URL; without one it is $LATEST.PUBLISHED."
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
    error_message = "An interface endpoint takes one subnet per zone."
  }
}

run "scales_at_a_utilization_of_ones_own" {
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

run "encrypts_with_keys_of_ones_own" {
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
    condition     = aws_cloudwatch_log_group.function.kms_key_id == "arn:aws:kms:us-east-1:123456789012:key/logs"
    error_message = "The log group must have its key."
  }

  assert {
    condition     = toset(jsondecode(aws_iam_role_policy.operator_kms[0].policy).Statement[*].Resource) == toset(["arn:aws:kms:us-east-1:123456789012:key/volumes"])
    error_message = "The operator role may use the key of the volumes and no other."
  }

  assert {
    condition     = length(regexall("[*]", aws_iam_role_policy.operator_kms[0].policy)) == 0
    error_message = "No wildcard among the actions on a key."
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
      aws_security_group.lambda_managed_instances, values(data.aws_subnet.candidate), values(data.aws_route_table.vpc),
    )) == 0
    error_message = "Neither provider, role nor security group are made, and no subnets are looked up."
  }

  assert {
    condition     = output.capacity_provider_name == "shared" && output.operator_role_arn == null && output.security_group_id == null
    error_message = "The outputs must tell the provider's name, and null for what is not ours."
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
      aws_cloudwatch_metric_alarm.concurrency, aws_cloudwatch_metric_alarm.vcpu, aws_cloudwatch_dashboard.main,
    )) == 0 && output.dashboard_url == null
    error_message = "Neither alarms nor dashboard."
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.retention_in_days == 30
    error_message = "The log group stays: it is no option."
  }
}
