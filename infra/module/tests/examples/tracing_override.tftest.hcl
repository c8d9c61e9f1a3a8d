# Runs with examples/tracing_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "traces_invocations" {
  assert {
    condition     = aws_lambda_function.fibonacci.tracing_config[0].mode == "Active" && length(jsondecode(aws_iam_role_policy.logs[0].policy).Statement) == 2
    error_message = "The role must be allowed to send traces as well as logs."
  }
}
