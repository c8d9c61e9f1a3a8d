# All optional parts at once. tests/plans.py checks that deployer-policy.json suffices for them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region                          = "us-east-1"
  vpc_id                          = "vpc-0123456789abcdef0"
  filename                        = "versions.tf"
  create_function_url             = true
  create_logs_endpoint            = true
  kms_key_arn                     = "arn:aws:kms:us-east-1:123456789012:key/volumes"
  logs_kms_key_arn                = "arn:aws:kms:us-east-1:123456789012:key/logs"
  log_deletion_protection_enabled = true
  permissions_boundary_arn        = "arn:aws:iam::123456789012:policy/boundary"
  scaling_schedules = {
    morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
  }
}

run "creates_everything" {
  command = plan

  assert {
    condition     = output.lambda_function_name == "fibonacci-generator" && output.dashboard_url != null
    error_message = "The names of deployer-policy.json are the default ones."
  }
}
