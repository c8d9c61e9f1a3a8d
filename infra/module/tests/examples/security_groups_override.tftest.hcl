# Runs with examples/security_groups_override.tf in module/; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "puts_the_instances_into_existing_security_groups" {
  command = plan

  variables {
    create_logs_endpoint = true
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].security_group_ids == toset(["sg-0123456789abcdef0"]) && length(aws_security_group.lambda_managed_instances) == 0 && output.security_group_id == null
    error_message = "The capacity provider must have the group, and no other is created."
  }

  assert {
    condition     = [for rule in aws_security_group.logs_endpoint[0].ingress : rule.security_groups] == [toset(["sg-0123456789abcdef0"])]
    error_message = "The endpoint must admit the same group."
  }
}
