# The configuration applied to the state of the Python system. Needs Terraform 1.11 (state_key).
# tests/plans.py also runs it with examples/takeover_override.tf in module/, and checks what happens to every resource.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "starts_from_the_python_system" {
  state_key = "one"

  module {
    source = "./tests/python_system"
  }
}

run "takes_over_the_python_system" {
  command   = plan
  state_key = "one"

  # Of a resource that is made anew, a plan does not know these.
  assert {
    condition     = [output.lambda_function_arn, output.operator_role_arn, output.security_group_id, output.execution_role_name] == run.starts_from_the_python_system.identities
    error_message = "Each resource must be found at its old address, and changed in place."
  }
}
