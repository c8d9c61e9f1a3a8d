# Runs with examples/alias.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "sends_a_part_of_the_invocations_to_another_version" {
  assert {
    condition     = aws_lambda_alias.live.function_version == "1" && aws_lambda_alias.live.routing_config[0].additional_version_weights == tomap({ "2" = 0.1 })
    error_message = "A tenth goes to version 2."
  }
}
