# Runs with examples/load_generator.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "creates_a_generator_that_may_invoke_the_function_and_nothing_else" {
  assert {
    condition = jsondecode(aws_iam_role_policy.generator.policy).Statement[0] == {
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = [output.lambda_function_arn, "${output.lambda_function_arn}:*"]
    }
    error_message = "The generator may invoke this function, its versions and aliases."
  }

  assert {
    condition     = length(jsondecode(aws_iam_role_policy.generator.policy).Statement) == 2 && jsondecode(aws_iam_role_policy.generator.policy).Statement[1].Resource == "${aws_cloudwatch_log_group.generator.arn}:*"
    error_message = "Besides that it may write to its own log."
  }

  assert {
    condition     = output.generator_function == "fibonacci-generator-load" && aws_lambda_function.generator.timeout == 900 && length(aws_lambda_function.generator.capacity_provider_config) == 0
    error_message = "A generator runs for up to 15 minutes, on ordinary Lambda."
  }
}
