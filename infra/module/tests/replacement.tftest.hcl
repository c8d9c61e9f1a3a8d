# What a change replaces, and what it leaves. An overridden computed value appears only in a resource that is made anew.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {

  vpc_id              = "vpc-0123456789abcdef0"
  filename            = "versions.tf"
  create_function_url = true
}

run "deploys" {
  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000001", "subnet-0c000001"])
    error_message = "The runs below start from these subnets."
  }
}

run "keeps_the_function_when_ceiling_and_code_change" {
  variables {
    capacity_provider_max_vcpu = 32
    filename                   = "main.tf"
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].capacity_provider_scaling_config[0].max_vcpu_count == 32 && aws_lambda_function.fibonacci.filename == "main.tf"
    error_message = "Both must change."
  }

  assert {
    condition     = output.lambda_function_arn == run.deploys.lambda_function_arn && output.function_url == run.deploys.function_url
    error_message = "Neither function nor URL may be replaced for it."
  }
}

run "keeps_the_subnets_when_the_vpc_gets_more" {
  override_data {
    target = data.aws_subnets.vpc
    values = { ids = ["subnet-0a000000", "subnet-0a000001", "subnet-0b000001", "subnet-0c000001"] }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000001", "subnet-0c000001"])
    error_message = "A new subnet with a lower id must not replace the capacity provider."
  }
}

run "rejects_other_subnets_without_replacement" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000002", "subnet-0b000001"]
  }

  expect_failures = [aws_lambda_capacity_provider.main]
}

run "replaces_what_depends_on_the_capacity_provider" {
  plan_options {
    replace = [aws_lambda_capacity_provider.main[0]]
  }

  variables {
    subnet_ids = ["subnet-0a000002", "subnet-0b000001"]
  }

  override_resource {
    target = aws_lambda_function_scaling_config.latest_published
    values = { function_state = "new" }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000001"])
    error_message = "A replacement takes the subnets that are given."
  }

  assert {
    condition     = output.lambda_function_arn != run.deploys.lambda_function_arn
    error_message = "The function must go first, or the provider cannot be deleted."
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_state == "new" && output.function_url != run.deploys.function_url
    error_message = "Scaling configuration and URL go with the function, and must come back with it."
  }
}

run "keeps_the_endpoint_in_the_subnets_of_the_capacity_provider" {
  variables {
    create_logs_endpoint = true
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000001"]) && aws_vpc_endpoint.logs[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000001"])
    error_message = "The endpoint must be where the instances are, not where they would be put today."
  }
}

run "encrypts_the_volumes" {
  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/volumes"
  }

  assert {
    condition     = length(aws_iam_role_policy.operator_kms) == 1
    error_message = "The next run starts from this."
  }
}

run "replaces_the_capacity_provider_when_its_key_is_removed" {
  assert {
    condition     = length(aws_iam_role_policy.operator_kms) == 0 && output.lambda_function_arn != run.encrypts_the_volumes.lambda_function_arn
    error_message = "Without the policy the old capacity provider could not use its key any more."
  }
}

run "replaces_the_function_when_its_capacity_provider_goes" {
  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  }

  assert {
    condition     = output.lambda_function_arn != run.replaces_the_capacity_provider_when_its_key_is_removed.lambda_function_arn
    error_message = "A provider with a function on it cannot be deleted."
  }
}

run "moves_between_existing_capacity_providers_in_place" {
  variables {
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:other"
  }

  assert {
    condition     = aws_lambda_function.fibonacci.capacity_provider_config[0].lambda_managed_instances_capacity_provider_config[0].capacity_provider_arn == "arn:aws:lambda:us-east-1:123456789012:capacity-provider:other"
    error_message = "The function must move."
  }

  assert {
    condition     = output.lambda_function_arn == run.replaces_the_function_when_its_capacity_provider_goes.lambda_function_arn
    error_message = "Nothing is deleted that would need the function to go first."
  }
}
