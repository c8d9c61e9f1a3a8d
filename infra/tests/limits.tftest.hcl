# One run for each way to break a limit; the names say which.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "rejects_a_zip_that_is_not_there" {
  command = plan

  variables {
    filename = "../target/no-such.zip"
  }

  expect_failures = [aws_lambda_function.fibonacci]
}

run "rejects_a_region_that_is_a_zone" {
  command = plan

  variables {
    region = "us-east-1a"
  }

  expect_failures = [var.region]
}

run "rejects_a_vpc_that_is_no_id" {
  command = plan

  variables {
    vpc_id = "main"
  }

  expect_failures = [var.vpc_id]
}

run "rejects_a_function_name_too_long_for_the_operator_role" {
  command = plan

  variables {
    function_name = "abcdefghijklmnopqrstuvwxyz"
  }

  expect_failures = [var.function_name]
}

run "rejects_a_function_name_with_a_dot" {
  command = plan

  variables {
    function_name = "fibonacci.generator"
  }

  expect_failures = [var.function_name]
}

run "rejects_an_architecture_in_capitals" {
  command = plan

  variables {
    architecture = "ARM64"
  }

  expect_failures = [var.architecture]
}

run "rejects_memory_below_the_managed_instances_minimum" {
  command = plan

  variables {
    memory_size         = 128
    memory_gib_per_vcpu = 2
  }

  expect_failures = [var.memory_size]
}

run "rejects_memory_above_the_maximum" {
  command = plan

  variables {
    memory_size = 34816
  }

  expect_failures = [var.memory_size]
}

run "rejects_memory_that_does_not_give_whole_vcpus" {
  command = plan

  variables {
    memory_size = 3072
  }

  expect_failures = [var.memory_size]
}

run "rejects_memory_below_one_vcpu_at_its_ratio" {
  command = plan

  variables {
    memory_size         = 2048
    memory_gib_per_vcpu = 4
  }

  expect_failures = [var.memory_size]
}

run "rejects_a_ratio_of_memory_that_no_instance_has" {
  command = plan

  variables {
    memory_gib_per_vcpu = 3
    memory_size         = 3072
  }

  expect_failures = [var.memory_gib_per_vcpu]
}

run "rejects_a_concurrency_of_zero" {
  command = plan

  variables {
    max_concurrency = 0
  }

  expect_failures = [var.max_concurrency]
}

run "rejects_a_concurrency_above_what_lambda_takes" {
  command = plan

  variables {
    max_concurrency            = 1601
    memory_size                = 32768
    memory_gib_per_vcpu        = 2
    capacity_provider_max_vcpu = 100
    min_execution_environments = 1
  }

  expect_failures = [var.max_concurrency]
}

run "rejects_a_concurrency_above_64_per_vcpu" {
  command = plan

  variables {
    max_concurrency = 65
  }

  expect_failures = [var.max_concurrency]
}

run "rejects_a_timeout_above_fifteen_minutes" {
  command = plan

  variables {
    timeout = 901
  }

  expect_failures = [var.timeout]
}

run "rejects_a_timeout_in_fractions_of_a_second" {
  command = plan

  variables {
    timeout = 0.5
  }

  expect_failures = [var.timeout]
}

run "rejects_a_negative_minimum_of_environments" {
  command = plan

  variables {
    min_execution_environments = -1
  }

  expect_failures = [var.min_execution_environments]
}

run "rejects_a_minimum_of_environments_above_the_vcpu_ceiling" {
  command = plan

  variables {
    min_execution_environments = 17
  }

  expect_failures = [var.min_execution_environments]
}

run "rejects_a_maximum_of_environments_above_what_lambda_takes" {
  command = plan

  variables {
    max_execution_environments = 15001
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_maximum_of_environments_below_the_minimum" {
  command = plan

  variables {
    max_execution_environments = 2
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_minimum_of_zero_environments_with_room_for_more" {
  command = plan

  variables {
    min_execution_environments = 0
    max_execution_environments = 5
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_minimum_of_zero_environments_without_a_maximum" {
  command = plan

  variables {
    min_execution_environments = 0
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_ceiling_of_one_vcpu" {
  command = plan

  variables {
    capacity_provider_max_vcpu = 1
    min_execution_environments = 1
  }

  expect_failures = [var.capacity_provider_max_vcpu]
}

run "rejects_a_scaling_mode_in_lower_case" {
  command = plan

  variables {
    scaling_mode = "auto"
  }

  expect_failures = [var.scaling_mode]
}

run "rejects_a_scaling_policy_in_auto_mode" {
  command = plan

  variables {
    target_cpu_utilization = 30
  }

  expect_failures = [var.target_cpu_utilization]
}

run "rejects_manual_mode_without_a_scaling_policy" {
  command = plan

  variables {
    scaling_mode = "Manual"
  }

  expect_failures = [var.target_cpu_utilization]
}

run "rejects_a_target_utilization_above_100_percent" {
  command = plan

  variables {
    scaling_mode           = "Manual"
    target_cpu_utilization = 101
  }

  expect_failures = [var.target_cpu_utilization]
}

run "rejects_a_single_subnet" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001"]
  }

  expect_failures = [var.subnet_ids]
}

run "rejects_more_than_16_subnets" {
  command = plan

  variables {
    subnet_ids = [for n in range(17) : format("subnet-%08x", n)]
  }

  expect_failures = [var.subnet_ids]
}

run "rejects_subnets_that_are_no_ids" {
  command = plan

  variables {
    subnet_ids = ["private-a", "private-b"]
  }

  expect_failures = [var.subnet_ids]
}

run "rejects_a_name_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "shared"
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_capacity_provider_of_another_region" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:eu-west-1:123456789012:capacity-provider:shared"
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_subnets_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    subnet_ids            = ["subnet-0a000001", "subnet-0b000001"]
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_key_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    kms_key_arn           = "arn:aws:kms:us-east-1:123456789012:key/abcd"
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_scaling_policy_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn  = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    scaling_mode           = "Manual"
    target_cpu_utilization = 30
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_logs_endpoint_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    create_logs_endpoint  = true
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_fifo_topic_for_the_alarms" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws:sns:us-east-1:123456789012:alarms.fifo"
  }

  expect_failures = [var.alarm_topic_arn]
}

run "rejects_a_retention_that_cloudwatch_does_not_know" {
  command = plan

  variables {
    log_retention_days = 31
  }

  expect_failures = [var.log_retention_days]
}

run "rejects_logs_kept_for_ever" {
  command = plan

  variables {
    log_retention_days = 0
  }

  expect_failures = [var.log_retention_days]
}

run "rejects_an_alias_as_the_key_of_the_volumes" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:alias/volumes"
  }

  expect_failures = [var.kms_key_arn]
}

run "rejects_an_alias_as_the_key_of_the_log_group" {
  command = plan

  variables {
    logs_kms_key_arn = "arn:aws:kms:us-east-1:123456789012:alias/logs"
  }

  expect_failures = [var.logs_kms_key_arn]
}

run "takes_the_largest_environments_that_fit" {
  command = plan

  variables {
    memory_size                = 32768
    max_concurrency            = 1024
    timeout                    = 900
    capacity_provider_max_vcpu = 48
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 3 }
    error_message = "Three environments of 16 vCPUs fit under 48 exactly."
  }
}

run "takes_zero_environments_to_switch_the_function_off" {
  command = plan

  variables {
    min_execution_environments = 0
    max_execution_environments = 0
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 0, max_execution_environments = 0 }
    error_message = "Both bounds at 0 is how Lambda deactivates a version."
  }
}
