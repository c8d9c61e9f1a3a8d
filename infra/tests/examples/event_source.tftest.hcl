# Runs with examples/event_source.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "invokes_the_function_with_messages" {
  assert {
    condition     = aws_lambda_event_source_mapping.queue.function_name == output.lambda_function_arn && aws_lambda_event_source_mapping.queue.event_source_arn == "arn:aws:sqs:us-east-1:123456789012:work"
    error_message = "The mapping must join queue and function."
  }

  assert {
    condition     = aws_iam_role_policy.queue.role == output.execution_role_name && jsondecode(aws_iam_role_policy.queue.policy).Statement[0].Resource == "arn:aws:sqs:us-east-1:123456789012:work"
    error_message = "The execution role must be allowed to read that queue."
  }
}
