# A first apply that ends between the function and its scaling configuration, because a publish fails.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
  scaling_schedules = {
    morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
  }
}

run "ends_before_the_scaling_configuration" {
  plan_options {
    target = [terraform_data.scaling_created]
  }
}

run "waits_for_the_next_second" {
  module {
    source = "./tests/next_second"
  }
}

run "sets_the_bounds_with_the_replacement_of_readme" {
  command = plan

  plan_options {
    replace = [terraform_data.scaling_created]
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 12 }
    error_message = "Without the replacement, the plan leaves the bounds to Lambda."
  }
}
