# What is planned for somebody who sets nothing but Region and VPC.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf" # stands for the zip, which mocks do not read
}

# First, because an execution role that exists keeps its name.
run "names_everything_after_the_function_and_what_is_global_after_the_region" {
  command = plan

  variables {
    function_name = "canary"
    scaling_schedules = {
      morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  assert {
    condition = [
      aws_lambda_function.fibonacci.function_name,
      aws_lambda_capacity_provider.main[0].name,
      aws_iam_role.lambda_role[0].name,
      aws_iam_role.capacity_provider_operator[0].name_prefix,
      aws_security_group.lambda_managed_instances[0].name_prefix,
      aws_cloudwatch_log_group.function.name,
      aws_cloudwatch_log_group.capacity_provider[0].name,
      aws_scheduler_schedule_group.scaling[0].name,
      aws_iam_role.scheduler[0].name,
      aws_cloudwatch_dashboard.main[0].dashboard_name,
      ] == [
      "canary", "canary-capacity-provider", "canary-us-east-1-role", "canary-cp-operator-", "canary-managed-instances-", "/aws/lambda/canary",
      "/aws/lambda/capacity-provider/canary-capacity-provider", "canary", "canary-us-east-1-scheduler", "canary-us-east-1"
    ]
    error_message = "Two functions in one account, or one function in two Regions, must not collide."
  }
}

run "publishes_the_function_to_latest_published" {
  command = plan

  assert {
    condition     = aws_lambda_function.fibonacci.publish && aws_lambda_function.fibonacci.publish_to == "LATEST_PUBLISHED"
    error_message = "Without both, an update of the function is never published, or as one more numbered version."
  }
}

run "runs_the_zip_as_an_os_only_function_with_json_logs" {
  command = plan

  assert {
    condition     = aws_lambda_function.fibonacci.runtime == "provided.al2023" && aws_lambda_function.fibonacci.handler == "bootstrap"
    error_message = "cargo lambda builds an executable called bootstrap for provided.al2023."
  }

  assert {
    condition     = aws_lambda_function.fibonacci.filename == "versions.tf" && aws_lambda_function.fibonacci.source_code_hash != null
    error_message = "Without the hash, new code is not deployed."
  }

  assert {
    condition     = aws_lambda_function.fibonacci.logging_config[0].log_format == "JSON" && aws_lambda_function.fibonacci.logging_config[0].system_log_level == "WARN" && aws_lambda_function.fibonacci.logging_config[0].log_group == "/aws/lambda/fibonacci-generator"
    error_message = "Managed Instances accept only JSON, and the log belongs in the group with a retention."
  }

  assert {
    condition     = length(aws_lambda_function.fibonacci.vpc_config) == 0
    error_message = "Lambda refuses a VPC of the function's own beside the capacity provider's."
  }
}

run "gives_an_environment_one_vcpu_and_sixteen_invocations_at_once" {
  command = apply # the ARN is known then

  assert {
    condition     = aws_lambda_function.fibonacci.memory_size == 2048 && aws_lambda_function.fibonacci.timeout == 10
    error_message = "The defaults are 2048 MB and 10 s."
  }

  assert {
    condition = aws_lambda_function.fibonacci.capacity_provider_config[0].lambda_managed_instances_capacity_provider_config[0] == {
      capacity_provider_arn                     = aws_lambda_capacity_provider.main[0].arn
      execution_environment_memory_gib_per_vcpu = 2
      per_execution_environment_max_concurrency = 16
    }
    error_message = "The function must run on the capacity provider, with its ratio and its concurrency written out."
  }
}

run "scales_the_concurrency_with_the_vcpus" {
  command = plan

  variables {
    memory_size                = 16384
    memory_gib_per_vcpu        = 4
    capacity_provider_max_vcpu = 48
  }

  assert {
    condition     = aws_lambda_function.fibonacci.capacity_provider_config[0].lambda_managed_instances_capacity_provider_config[0].per_execution_environment_max_concurrency == 64
    error_message = "16 GiB at 4 GiB per vCPU are 4 vCPUs, with 16 invocations each."
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0].max_execution_environments == 6
    error_message = "Six instances of 8 vCPUs hold one such environment each."
  }
}

run "scales_latest_published_from_three_environments_to_the_vcpu_ceiling" {
  command = plan

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.qualifier == "$LATEST.PUBLISHED"
    error_message = "On a numbered version the configuration would not carry over to the next publish."
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 12 }
    error_message = "Four instances of 4 vCPUs hold three environments each, because each reserves one vCPU."
  }
}

run "lets_lambda_scale_and_choose_instance_types_under_a_ceiling" {
  command = plan

  assert {
    condition     = aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].scaling_mode == "Auto" && aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].max_vcpu_count == 16
    error_message = "The mode must be Auto, with a ceiling."
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].scaling_policies == null
    error_message = "Auto accepts no scaling policies."
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].instance_requirements[0].architectures == tolist(["x86_64"]) && aws_lambda_capacity_provider.main[0].instance_requirements[0].allowed_instance_types == null && aws_lambda_capacity_provider.main[0].instance_requirements[0].excluded_instance_types == null
    error_message = "Only the architecture of the instances is restricted."
  }
}

run "builds_provider_and_function_for_the_same_architecture" {
  command = plan

  variables {
    architecture = "arm64"
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].instance_requirements[0].architectures == tolist(["arm64"]) && aws_lambda_function.fibonacci.architectures == tolist(["arm64"])
    error_message = "A function cannot run on instances of another architecture."
  }
}

run "lets_only_lambda_in_this_account_assume_the_roles" {
  command = plan

  assert {
    condition = [for role in [aws_iam_role.lambda_role[0], aws_iam_role.capacity_provider_operator[0]] : jsondecode(role.assume_role_policy).Statement] == [
      for role in ["execution", "operator"] : [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "lambda.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }]
    ]
    error_message = "Both trust policies must name Lambda and the account, and nothing that does not exist yet."
  }
}

run "gives_the_operator_role_nothing_but_awss_policy" {
  command = plan

  assert {
    condition     = aws_iam_role_policy_attachment.operator_policy[0].policy_arn == "arn:aws:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
    error_message = "The policy has no service-role/ in its path."
  }

  assert {
    condition     = length(aws_iam_role_policy.operator_kms) == 0
    error_message = "Without a key there is nothing to allow on it."
  }
}

run "lets_the_function_write_to_its_own_log_group_only" {
  command = apply # the ARN is known then

  assert {
    condition = jsondecode(aws_iam_role_policy.logs[0].policy).Statement == [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/fibonacci-generator:*"
    }]
    error_message = "The execution role must have these two actions on this log group."
  }
}

run "keeps_the_logs_of_function_and_capacity_provider_for_thirty_days" {
  command = plan

  assert {
    condition = [for group in concat([aws_cloudwatch_log_group.function], aws_cloudwatch_log_group.capacity_provider) : [group.name, group.retention_in_days]] == [
      ["/aws/lambda/fibonacci-generator", 30], ["/aws/lambda/capacity-provider/fibonacci-generator-capacity-provider", 30]
    ]
    error_message = "A log without retention is kept, and billed, forever."
  }
}

# tests/zips are laid out as cargo-lambda lays out its zip. The first two differ in the time of the build only.
run "hashes_a_build" {
  command = plan

  variables {
    filename = "tests/zips/built.zip"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.source_code_hash == "g+o0Vtxi94AM9ayOlS/HTGcQtZOOCjYyEk+jFYVfYLc="
    error_message = "The next runs compare with this hash."
  }
}

run "gives_the_same_build_at_another_time_the_same_hash" {
  command = plan

  variables {
    filename = "tests/zips/rebuilt.zip"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.source_code_hash == "g+o0Vtxi94AM9ayOlS/HTGcQtZOOCjYyEk+jFYVfYLc=" && filebase64sha256("tests/zips/rebuilt.zip") != filebase64sha256("tests/zips/built.zip")
    error_message = "The files differ, and yet a build that changes nothing must plan nothing."
  }
}

run "gives_another_executable_another_hash" {
  command = plan

  variables {
    filename = "tests/zips/changed.zip"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.source_code_hash != "g+o0Vtxi94AM9ayOlS/HTGcQtZOOCjYyEk+jFYVfYLc="
    error_message = "A change of one bit must be deployed."
  }
}
