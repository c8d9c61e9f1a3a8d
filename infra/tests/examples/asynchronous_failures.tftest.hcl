# Runs with examples/asynchronous_failures.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "sends_failed_invocations_to_the_queue" {
  command = plan

  assert {
    condition     = aws_lambda_function_event_invoke_config.failures.destination_config[0].on_failure[0].destination == "arn:aws:sqs:us-east-1:123456789012:fibonacci-failures" && jsondecode(aws_iam_role_policy.failures.policy).Statement[0].Resource == "arn:aws:sqs:us-east-1:123456789012:fibonacci-failures"
    error_message = "Destination and permission must name the same queue."
  }
}
