# Runs with examples/environment_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "sets_environment_variables" {
  command = plan

  variables {
    runtime_api_pipelining = false
  }

  assert {
    condition     = [for environment in aws_lambda_function.fibonacci.environment : environment.variables] == [tomap({ TZ = "Europe/Berlin" })]
    error_message = "The variables must replace those of the configuration."
  }
}
