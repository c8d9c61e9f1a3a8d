# Runs with examples/protect_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "still_plans_a_first_deployment" {
  command = plan

  assert {
    condition     = aws_lambda_function.fibonacci.function_name == "fibonacci-generator"
    error_message = "What is protected must be created first."
  }
}
