# Runs with examples/load_balancer.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "invokes_the_function_from_a_load_balancer" {
  override_resource {
    target = aws_lb_target_group.fibonacci
    values = { arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/fibonacci-generator/0123456789abcdef" }
  }

  assert {
    condition     = aws_lb_target_group_attachment.fibonacci.target_id == output.lambda_function_arn && aws_lambda_permission.load_balancer.source_arn == aws_lb_target_group.fibonacci.arn
    error_message = "The group must have the function as its target, and may invoke it."
  }
}
