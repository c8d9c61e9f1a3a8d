# The configuration applied to the state of an earlier release, which had every resource in the root.
# Needs Terraform 1.11 (state_key). tests/plans.py checks what happens to every resource.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region                     = "us-east-1"
  vpc_id                     = "vpc-0123456789abcdef0"
  filename                   = "versions.tf"
  max_execution_environments = 12
  create_function_url        = true
  create_logs_endpoint       = true
  kms_key_arn                = "arn:aws:kms:us-east-1:123456789012:key/volumes"
  scaling_schedules = {
    morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
  }
}

run "starts_from_an_earlier_release" {
  state_key = "one"

  module {
    source = "./module"
  }
}

run "updates_an_earlier_release" {
  command   = plan
  state_key = "one"

  # Of a resource that is made anew, a plan does not know these.
  assert {
    condition = [
      output.lambda_function_arn, output.invoke_arn, output.capacity_provider_arn, output.operator_role_arn, output.security_group_id, output.function_url,
      ] == [
      run.starts_from_an_earlier_release.lambda_function_arn, run.starts_from_an_earlier_release.invoke_arn, run.starts_from_an_earlier_release.capacity_provider_arn,
      run.starts_from_an_earlier_release.operator_role_arn, run.starts_from_an_earlier_release.security_group_id, run.starts_from_an_earlier_release.function_url,
    ]
    error_message = "Each resource must be found at its old address."
  }
}
