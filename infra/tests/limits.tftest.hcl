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

run "accepts_regions_of_every_partition" {
  command = plan

  variables {
    region = "us-isob-east-1"
  }

  override_data {
    target = data.aws_subnets.vpc
    values = { ids = ["subnet-0a000001", "subnet-0b000001"] }
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0a000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-isob-east-1a" }
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0b000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-isob-east-1b" }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000001"])
    error_message = "Region names may have more than two letters and two hyphens."
  }
}

run "rejects_a_region_that_is_a_zone" {
  command = plan

  variables {
    region = "us-east-1a"
  }

  expect_failures = [var.region]
}

run "rejects_a_vpc_by_name" {
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

run "rejects_a_fraction_of_a_concurrency" {
  command = plan

  variables {
    max_concurrency = 1.5
  }

  expect_failures = [var.max_concurrency]
}

run "rejects_a_concurrency_above_what_lambda_accepts" {
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

run "rejects_a_timeout_above_what_the_provider_accepts" {
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

run "rejects_a_fraction_of_an_environment_as_minimum" {
  command = plan

  variables {
    min_execution_environments = 2.5
  }

  expect_failures = [var.min_execution_environments]
}

run "rejects_a_minimum_of_environments_that_leaves_no_vcpu_to_the_instances" {
  command = plan

  variables {
    min_execution_environments = 14
  }

  expect_failures = [var.min_execution_environments]
}

run "rejects_a_maximum_of_environments_above_what_lambda_accepts" {
  command = plan

  variables {
    max_execution_environments = 15001
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_fraction_of_an_environment_as_maximum" {
  command = plan

  variables {
    max_execution_environments = 12.5
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

run "rejects_a_ceiling_above_what_lambda_accepts" {
  command = plan

  variables {
    capacity_provider_max_vcpu = 15001
  }

  expect_failures = [var.capacity_provider_max_vcpu]
}

run "rejects_a_fraction_of_a_vcpu_as_ceiling" {
  command = plan

  variables {
    capacity_provider_max_vcpu = 16.5
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

run "rejects_a_target_utilization_of_zero" {
  command = plan

  variables {
    scaling_mode           = "Manual"
    target_cpu_utilization = 0
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

run "rejects_subnets_by_name" {
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

run "rejects_logs_kept_forever" {
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

run "rejects_a_schedule_with_a_space_in_its_name" {
  command = plan

  variables {
    scaling_schedules = {
      "every morning" = { cron = "0 8 ? * * *", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_cron_expression_of_unix" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 * * 1-5", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_cron_expression_that_names_both_days" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 1 * MON *", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_cron_expression_inside_cron" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "cron(0 8 ? * * *)", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_time_zone_that_is_an_offset" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "+02:00", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_with_a_fraction_of_an_environment" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = 1.5, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_with_a_bound_that_is_null" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = null, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_above_what_lambda_accepts" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = 3, max_execution_environments = 15001 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_whose_maximum_is_below_its_minimum" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = 3, max_execution_environments = 2 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_that_waits_for_traffic_with_no_environment" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = 3, max_execution_environments = 12 }
      evening = { cron = "0 19 ? * * *", min_execution_environments = 0, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_above_the_vcpu_ceiling" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", min_execution_environments = 14, max_execution_environments = 14 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_schedules_that_never_switch_the_function_on" {
  command = plan

  variables {
    scaling_schedules = {
      evening = { cron = "0 19 ? * * *", min_execution_environments = 0, max_execution_environments = 0 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_tag_that_is_reserved_for_aws" {
  command = plan

  variables {
    tags = { "aws:owner" = "me" }
  }

  expect_failures = [var.tags]
}

run "rejects_more_tags_than_a_resource_may_have" {
  command = plan

  variables {
    tags = { for n in range(49) : "tag${n}" => "" }
  }

  expect_failures = [var.tags]
}

run "rejects_a_tag_whose_key_is_too_long" {
  command = plan

  variables {
    tags = { (join("", [for n in range(129) : "a"])) = "me" }
  }

  expect_failures = [var.tags]
}

run "rejects_a_tag_whose_value_is_too_long" {
  command = plan

  variables {
    tags = { Owner = join("", [for n in range(257) : "a"]) }
  }

  expect_failures = [var.tags]
}

run "rejects_a_tag_whose_key_has_a_character_that_aws_does_not_accept" {
  command = plan

  variables {
    tags = { "Owner?" = "me" }
  }

  expect_failures = [var.tags]
}

run "rejects_a_tag_whose_value_has_a_character_that_aws_does_not_accept" {
  command = plan

  variables {
    tags = { Owner = "me, myself" }
  }

  expect_failures = [var.tags]
}

run "rejects_tags_that_differ_in_case_only" {
  command = plan

  variables {
    tags = { owner = "me", Owner = "me" }
  }

  expect_failures = [var.tags]
}

run "rejects_a_tag_that_differs_from_application_in_case_only" {
  command = plan

  variables {
    tags = { application = "sequences" }
  }

  expect_failures = [var.tags]
}

run "rejects_a_bucket_with_its_scheme" {
  command = plan

  variables {
    s3_object = { bucket = "s3://artefacts", key = "fibonacci.zip" }
  }

  expect_failures = [var.s3_object]
}

run "rejects_an_object_without_a_key" {
  command = plan

  variables {
    s3_object = { bucket = "artefacts", key = "" }
  }

  expect_failures = [var.s3_object]
}

run "rejects_allowed_and_excluded_instance_types_at_once" {
  command = plan

  variables {
    allowed_instance_types  = ["c7i.*"]
    excluded_instance_types = ["c7i.48xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_an_invalid_allowed_instance_type" {
  command = plan

  variables {
    allowed_instance_types = ["c7i xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_an_invalid_excluded_instance_type" {
  command = plan

  variables {
    excluded_instance_types = [""]
  }

  expect_failures = [var.excluded_instance_types]
}

run "rejects_instance_types_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn  = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    allowed_instance_types = ["c7i.xlarge"]
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_excluded_instance_types_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn   = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    excluded_instance_types = ["c5.*"]
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_path_without_slashes" {
  command = plan

  variables {
    iam_path = "platform"
  }

  expect_failures = [var.iam_path]
}

run "rejects_a_path_with_a_space" {
  command = plan

  variables {
    iam_path = "/our platform/"
  }

  expect_failures = [var.iam_path]
}

run "rejects_a_path_that_is_too_long" {
  command = plan

  variables {
    iam_path = "/${join("", [for n in range(511) : "a"])}/"
  }

  expect_failures = [var.iam_path]
}

run "rejects_the_name_of_a_policy_as_boundary" {
  command = plan

  variables {
    permissions_boundary_arn = "boundary"
  }

  expect_failures = [var.permissions_boundary_arn]
}

run "accepts_the_largest_environments_that_fit" {
  command = plan

  variables {
    memory_size                = 32768
    max_concurrency            = 1024
    timeout                    = 900
    capacity_provider_max_vcpu = 96
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 3 }
    error_message = "Three instances of 32 vCPUs hold one environment of 16 each."
  }

  assert {
    condition     = aws_lambda_function.fibonacci.timeout == 900 && aws_lambda_function.fibonacci.capacity_provider_config[0].lambda_managed_instances_capacity_provider_config[0].per_execution_environment_max_concurrency == 1024
    error_message = "The largest timeout and concurrency must be accepted."
  }
}

run "accepts_zero_environments_to_switch_the_function_off" {
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

run "accepts_a_minimum_that_leaves_each_instance_a_vcpu" {
  command = plan

  variables {
    min_execution_environments = 13
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 13, max_execution_environments = 13 }
    error_message = "On three instances with 16 vCPUs in total, 13 environments of one vCPU may fit."
  }
}

run "assumes_larger_instances_if_an_environment_needs_them" {
  command = plan

  variables {
    memory_size                = 4096
    capacity_provider_max_vcpu = 40
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0].max_execution_environments == 10
    error_message = "Ten instances of 4 vCPUs hold one environment of 2 each: of the other two vCPUs the instance reserves one."
  }
}
