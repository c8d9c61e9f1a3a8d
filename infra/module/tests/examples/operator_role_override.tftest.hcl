# Runs with examples/operator_role_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "launches_the_instances_with_an_existing_role" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/volumes"
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].permissions_config[0].capacity_provider_operator_role_arn == "arn:aws:iam::123456789012:role/lambda-operator" && output.operator_role_arn == null
    error_message = "The capacity provider must have the role, and no other is created."
  }
}
