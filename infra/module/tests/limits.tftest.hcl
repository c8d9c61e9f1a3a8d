# What the limits refuse and accept. A run that breaks the limits of several variables fails unless each of them is refused.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
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

run "rejects_numbers_that_are_too_small" {
  command = plan

  variables {
    memory_size                = 128
    timeout                    = 0.5
    capacity_provider_max_vcpu = 11
    scaling_mode               = "Manual"
    target_cpu_utilization     = 0
    log_retention_days         = 0 # CloudWatch would keep the logs for ever
  }

  expect_failures = [var.memory_size, var.timeout, var.capacity_provider_max_vcpu, var.target_cpu_utilization, var.log_retention_days]
}

run "rejects_numbers_that_are_too_large" {
  command = plan

  variables {
    memory_size                = 34816
    timeout                    = 901
    capacity_provider_max_vcpu = 15001
    scaling_mode               = "Manual"
    target_cpu_utilization     = 101
    log_retention_days         = 31 # CloudWatch knows 30 and 60
  }

  expect_failures = [var.memory_size, var.timeout, var.capacity_provider_max_vcpu, var.target_cpu_utilization, var.log_retention_days]
}

run "rejects_environments_and_concurrencies_below_the_least" {
  command = plan

  variables {
    min_execution_environments = -1
    max_concurrency            = 0
  }

  expect_failures = [var.min_execution_environments, var.max_concurrency]
}

run "rejects_fractions_of_environments_and_concurrencies" {
  command = plan

  variables {
    min_execution_environments = 2.5
    max_concurrency            = 1.5
  }

  expect_failures = [var.min_execution_environments, var.max_concurrency]
}

run "rejects_fractions_of_vcpus" {
  command = plan

  variables {
    memory_size                = 3072
    capacity_provider_max_vcpu = 16.5
  }

  expect_failures = [var.memory_size, var.capacity_provider_max_vcpu]
}

run "rejects_an_environment_and_a_concurrency_too_many" {
  command = plan

  variables {
    min_execution_environments = 14 # the instances reserve 3 of 16 vCPUs
    max_concurrency            = 65 # of one vCPU
  }

  expect_failures = [var.min_execution_environments, var.max_concurrency]
}

run "rejects_names_that_aws_refuses" {
  command = plan

  variables {
    function_name           = "fibonacci.generator"
    architecture            = "ARM64"
    scaling_mode            = "auto"
    excluded_instance_types = ["c5 xlarge"]
    excluded_zone_ids       = ["us-east-1c"] # another zone in each account
    dns_server_cidrs        = ["10.0.0.2"]   # without the length of the prefix
    iam_path                = "/our platform/"
    s3_object               = { bucket = "s3://artefacts", key = "fibonacci.zip" }
    scaling_schedules = {
      "every morning" = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.function_name, var.architecture, var.scaling_mode, var.excluded_instance_types, var.excluded_zone_ids, var.dns_server_cidrs, var.iam_path, var.s3_object, var.scaling_schedules]
}

run "rejects_names_where_aws_wants_ids_and_arns" {
  command = plan

  variables {
    subnet_ids               = ["private-a", "private-b"]
    execution_role_arn       = "lambda-execution"
    permissions_boundary_arn = "boundary"
    kms_key_arn              = "arn:aws:kms:us-east-1:123456789012:alias/volumes"
    logs_kms_key_arn         = "arn:aws:kms:us-east-1:123456789012:alias/logs"
    alarm_topic_arn          = "arn:aws:sns:us-east-1:123456789012:alarms.fifo" # alarms cannot notify it
  }

  expect_failures = [var.subnet_ids, var.execution_role_arn, var.permissions_boundary_arn, var.kms_key_arn, var.logs_kms_key_arn, var.alarm_topic_arn]
}

run "rejects_what_is_too_long_or_too_many" {
  command = plan

  variables {
    function_name = "abcdefghijklmnopqrstuvwxyz" # for the name of the operator role
    subnet_ids    = [for n in range(17) : format("subnet-%08x", n)]
    iam_path      = "/${join("", [for n in range(511) : "a"])}/"
  }

  expect_failures = [var.function_name, var.subnet_ids, var.iam_path]
}

run "rejects_what_lacks_a_part" {
  command = plan

  variables {
    vpc_id            = null
    filename          = ""
    scaling_mode      = "Manual"
    iam_path          = "platform" # without its slashes
    function_url_cors = { allow_origins = ["https://example.com"] }
    create_monitoring = false
    alarm_topic_arn   = "arn:aws:sns:us-east-1:123456789012:alarms"
  }

  expect_failures = [var.vpc_id, var.filename, var.target_cpu_utilization, var.iam_path, var.function_url_cors, var.alarm_topic_arn]
}

run "rejects_members_that_do_not_exist" {
  command = plan

  variables {
    s3_object           = { bucket = "artefacts", key = "fibonacci.zip", verison = "v1" }
    create_function_url = true
    function_url_cors   = { allow_origin = ["https://example.com"] }
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", timezone = "Europe/Berlin", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.s3_object, var.function_url_cors, var.scaling_schedules]
}

run "rejects_two_that_exclude_each_other" {
  command = plan

  variables {
    create_logs_endpoint    = true
    logs_endpoint_exists    = true
    excluded_zone_ids       = ["use1-az3"]
    subnet_ids              = ["subnet-0a000001", "subnet-0b000001"]
    allowed_instance_types  = ["c7i.*"]
    excluded_instance_types = ["c7i.48xlarge"]
    target_cpu_utilization  = 30 # Auto is the default
  }

  expect_failures = [var.logs_endpoint_exists, var.excluded_zone_ids, var.allowed_instance_types, var.target_cpu_utilization]
}

run "rejects_what_is_empty_or_leaves_nothing" {
  command = plan

  variables {
    s3_object               = { bucket = "artefacts", key = "" }
    excluded_instance_types = ["*"]
    scaling_schedules = {
      evening = { cron = "0 19 ? * * *", time_zone = "UTC", min_execution_environments = 0, max_execution_environments = 0 }
    }
  }

  expect_failures = [var.s3_object, var.excluded_instance_types, var.scaling_schedules]
}

run "accepts_regions_of_every_partition" {
  command = plan

  override_data {
    target = data.aws_region.current
    values = { region = "us-isob-east-1" }
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

run "rejects_a_vpc_by_name" {
  command = plan

  variables {
    vpc_id = "main"
  }

  expect_failures = [var.vpc_id]
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

run "rejects_a_concurrency_above_what_lambda_accepts" {
  command = plan

  variables {
    max_concurrency            = 1601
    memory_size                = 32768
    memory_gib_per_vcpu        = 2
    capacity_provider_max_vcpu = 192
  }

  expect_failures = [var.max_concurrency]
}

run "rejects_a_ceiling_that_does_not_hold_the_three_environments_of_the_first_publish" {
  command = plan

  variables {
    memory_size                = 32768
    min_execution_environments = 1
    capacity_provider_max_vcpu = 48
    capacity_provider_arn      = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  }

  expect_failures = [var.min_execution_environments]
}

run "warns_of_a_ceiling_that_does_not_hold_the_instances_of_the_first_publish" {
  command = plan

  variables {
    memory_size                = 16384
    capacity_provider_max_vcpu = 64
  }

  expect_failures = [check.first_publish_has_room]
}

run "knows_no_first_publish_on_an_existing_capacity_provider" {
  command = plan

  variables {
    memory_size                = 16384
    capacity_provider_max_vcpu = 64
    capacity_provider_arn      = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  }

  assert {
    condition     = length(aws_lambda_capacity_provider.main) == 0
    error_message = "Instances may be running there already, so there is nothing to warn of."
  }
}

run "rejects_a_maximum_of_environments_above_what_lambda_accepts" {
  command = plan

  variables {
    max_execution_environments = 15001
  }

  expect_failures = [var.max_execution_environments]
}

run "rejects_a_maximum_of_environments_that_the_ceiling_does_not_hold" {
  command = plan

  variables {
    max_execution_environments = 14
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

run "rejects_a_capacity_provider_whose_arn_is_too_long" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:${join("", [for n in range(85) : "a"])}"
  }

  expect_failures = [var.capacity_provider_arn]
}

run "accepts_a_capacity_provider_whose_arn_is_as_long_as_it_may_be" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:${join("", [for n in range(84) : "a"])}"
  }

  assert {
    condition     = length(output.capacity_provider_arn) == 140
    error_message = "Lambda accepts 140 characters."
  }
}

run "accepts_an_existing_capacity_provider_without_a_vpc" {
  command = plan

  variables {
    vpc_id                = null
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  }

  assert {
    condition     = output.capacity_provider_name == "shared"
    error_message = "The VPC is the capacity provider's."
  }
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

run "rejects_a_given_logs_endpoint_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    logs_endpoint_exists  = true
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_excluded_zones_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    excluded_zone_ids     = ["use1-az3"]
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_dns_servers_for_an_existing_capacity_provider" {
  command = plan

  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    dns_server_cidrs      = ["10.0.0.2/32"]
  }

  expect_failures = [var.capacity_provider_arn]
}

run "rejects_a_cron_expression_of_unix" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 * * 1-5", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_30_february" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 30 2 ? *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_days_that_no_month_of_a_list_has" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 31W 2,04,6,9,11,FEB,APR,JUN,SEP,NOV ? *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_what_no_cron_expression_may_hold" {
  command = plan

  # rejects_a_cron_expression_of_unix shows that the schedules are matched with this pattern.
  assert {
    condition = [for what, cron in {
      "both days"                        = "0 8 1 * MON *"
      "what AWS's pages write around it" = "cron(0 8 ? * * *)"
      "minute 75"                        = "75 8 ? * * *"
      "hour 24"                          = "0 24 ? * * *"
      "day 0"                            = "0 8 0 * ? *"
      "day 32"                           = "0 8 32 * ? *"
      "month 13"                         = "0 8 ? 13 * *"
      "no month"                         = "0 8 ? JNU * *"
      "weekday 8"                        = "0 8 ? * 8 *"
      "year 1969"                        = "0 8 ? * * 1969"
      "a step of zero"                   = "0/0 8 ? * * *"
    } : what if can(regex(local.cron_pattern, cron))] == []
    error_message = "One of these was accepted."
  }
}

# From AWS's page on schedule types.
run "accepts_what_a_cron_expression_may_hold" {
  command = plan

  variables {
    scaling_schedules = { for index, cron in [
      "0 10 * * ? *", "15 12 * * ? *", "0 18 ? * MON-FRI *", "0 8 1 * ? *", "0/10 * ? * MON-FRI *", "0/5 8-17 ? * MON-FRI *", "15 10 ? * 6L 2022-2033",
      "0 9 ? * 2#1 *", "30 0 L * ? *", "0 8 LW * ? *", "0 8 L-3 * ? *", "0 8 15W * ? *", "0,30 08 29 2 ? *", "0 8 31 1,2 ? *", "59 23 30-31 JAN/2 ? 1970,2199",
      "*/15 20-2 ? 1-3,DEC SUN,3 2026/2",
    ] : "schedule-${index}" => { cron = cron, time_zone = "America/Argentina/Buenos_Aires", min_execution_environments = 3, max_execution_environments = 12 } }
  }

  assert {
    condition     = length(aws_scheduler_schedule.scaling) == 16
    error_message = "Each of these is valid."
  }
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
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 1.5, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_with_a_bound_that_is_null" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = null, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_above_what_lambda_accepts" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 15001 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_whose_maximum_is_below_its_minimum" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 2 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_that_waits_for_traffic_with_no_environment" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
      evening = { cron = "0 19 ? * * *", time_zone = "UTC", min_execution_environments = 0, max_execution_environments = 12 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_schedule_above_the_vcpu_ceiling" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "0 8 ? * * *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 14 }
    }
  }

  expect_failures = [var.scaling_schedules]
}

run "rejects_a_function_without_code" {
  command = plan

  variables {
    filename = null
  }

  expect_failures = [var.filename]
}

run "rejects_an_invalid_allowed_instance_type" {
  command = plan

  variables {
    allowed_instance_types = ["c7i xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_graviton_instances_for_x86_64" {
  command = plan

  variables {
    allowed_instance_types = ["c7i.xlarge", "c7g.xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_the_first_graviton_instances_for_x86_64" {
  command = plan

  variables {
    allowed_instance_types = ["a1.xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_intel_instances_for_arm64" {
  command = plan

  variables {
    architecture           = "arm64"
    allowed_instance_types = ["c7g.xlarge", "m7i*"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_instances_with_gpus" {
  command = plan

  variables {
    allowed_instance_types = ["g6.xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_instances_with_too_few_vcpus" {
  command = plan

  variables {
    memory_size                = 4096
    capacity_provider_max_vcpu = 24
    allowed_instance_types     = ["c7i.large"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_instances_with_one_vcpu" {
  command = plan

  variables {
    allowed_instance_types = ["m7i.medium"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "rejects_instances_with_too_little_memory" {
  command = plan

  variables {
    memory_size            = 8192
    memory_gib_per_vcpu    = 8
    allowed_instance_types = ["c7i.xlarge"]
  }

  expect_failures = [var.allowed_instance_types]
}

run "accepts_instance_types_that_hold_an_environment" {
  command = plan

  variables {
    architecture           = "arm64"
    memory_size            = 8192
    memory_gib_per_vcpu    = 8
    allowed_instance_types = ["r8g.xlarge", "m7gd.2xlarge", "a1.4xlarge", "c8*", "*.12xlarge", "r7g.metal", "x2gd.*"]
  }

  assert {
    condition     = length(aws_lambda_capacity_provider.main[0].instance_requirements[0].allowed_instance_types) == 7
    error_message = "What a wildcard leaves open may fit."
  }
}

run "accepts_the_smallest_instances_that_hold_an_environment" {
  command = plan

  variables {
    allowed_instance_types = ["c7i.large", "m7i-flex.large", "c6a.48xlarge"]
  }

  assert {
    condition     = length(aws_lambda_capacity_provider.main[0].instance_requirements[0].allowed_instance_types) == 3
    error_message = "2 vCPUs and 4 GiB are an environment's, and what the instance reserves."
  }
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

run "accepts_the_largest_environments_that_fit" {
  command = plan

  variables {
    memory_size                = 32768
    max_concurrency            = 1024
    timeout                    = 900
    capacity_provider_max_vcpu = 192
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 6 }
    error_message = "Six instances of 32 vCPUs hold one environment of 16 each."
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
