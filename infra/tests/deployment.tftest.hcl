# What the root adds to the module: Region, tags, and the outputs that scripts read.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "has_the_outputs_of_the_python_system_and_more" {
  assert {
    condition = alltrue([for value in [
      output.lambda_function_arn, output.lambda_function_name, output.invoke_arn, output.capacity_provider_arn, output.capacity_provider_name,
      output.operator_role_arn, output.execution_role_name, output.security_group_id, output.log_group_name, output.dashboard_url,
    ] : value != null])
    error_message = "Scripts read these outputs."
  }
}

run "passes_variables_to_the_module" {
  command = plan

  variables {
    function_name         = "canary"
    capacity_provider_arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
    create_monitoring     = false
  }

  assert {
    condition     = output.lambda_function_name == "canary" && output.capacity_provider_name == "shared" && output.dashboard_url == null
    error_message = "The module must get the variables of the root."
  }
}

run "rejects_a_region_that_is_a_zone" {
  command = plan

  variables {
    region = "us-east-1a"
  }

  expect_failures = [var.region]
}

# local.tags are the default_tags of the provider, which mocks do not merge into tags_all.
run "tags_with_the_name_of_the_application_by_default" {
  command = plan

  assert {
    condition     = local.tags == { Application = "fibonacci-generator", ManagedBy = "Terraform" }
    error_message = "Cost reports find the resources by these two tags."
  }
}

run "adds_tags" {
  command = plan

  variables {
    tags = { CostCenter = "1234", Application = "sequences", "été:a/b" = "" }
  }

  assert {
    condition     = local.tags == { CostCenter = "1234", Application = "sequences", ManagedBy = "Terraform", "été:a/b" = "" }
    error_message = "Given tags are added, and win over the default ones."
  }
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
