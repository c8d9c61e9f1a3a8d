# Runs with examples/log_level_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "logs_more" {
  command = plan

  assert {
    condition     = [for config in aws_lambda_function.fibonacci.logging_config : [config.log_format, config.log_group, config.application_log_level, config.system_log_level]] == [["JSON", "/aws/lambda/fibonacci-generator", "DEBUG", "INFO"]]
    error_message = "Both levels must change, and nothing else."
  }
}
