# Our configuration applied to the state of the Python system, with examples/takeover_override.tf beside it.
# Needs Terraform 1.11 (state_key).

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "starts_from_the_python_system" {
  state_key = "one"

  module {
    source = "./tests/python_system"
  }
}

run "keeps_what_the_python_system_made" {
  state_key = "one"

  assert {
    condition = run.starts_from_the_python_system.identities == [
      aws_lambda_capacity_provider.main[0].region,
      aws_security_group.lambda_managed_instances[0].id,
      aws_iam_role.capacity_provider_operator[0].unique_id,
      aws_iam_role.lambda_role.unique_id,
      aws_iam_role_policy_attachment.operator_policy[0].id,
      aws_lambda_function.fibonacci.arn,
    ]
    error_message = "Each resource must be found at its old address, and changed in place."
  }

  assert {
    condition = run.starts_from_the_python_system.arguments_that_force_replacement == {
      capacity_provider_name        = aws_lambda_capacity_provider.main[0].name
      capacity_provider_vpc_config  = aws_lambda_capacity_provider.main[0].vpc_config
      capacity_provider_permissions = aws_lambda_capacity_provider.main[0].permissions_config
      capacity_provider_instances   = aws_lambda_capacity_provider.main[0].instance_requirements
      security_group_name_prefix    = aws_security_group.lambda_managed_instances[0].name_prefix
      security_group_description    = aws_security_group.lambda_managed_instances[0].description
      security_group_vpc_id         = aws_security_group.lambda_managed_instances[0].vpc_id
      operator_role_name_prefix     = aws_iam_role.capacity_provider_operator[0].name_prefix
      execution_role_name           = aws_iam_role.lambda_role.name
      function_name                 = aws_lambda_function.fibonacci.function_name
      attached_operator_policy      = [aws_iam_role_policy_attachment.operator_policy[0].role, aws_iam_role_policy_attachment.operator_policy[0].policy_arn]
    }
    error_message = "These arguments must stay as they are, or AWS's provider replaces the resource."
  }

  assert {
    condition     = [for role in [aws_iam_role.capacity_provider_operator[0], aws_iam_role.lambda_role] : [role.description, role.assume_role_policy]] == run.starts_from_the_python_system.roles
    error_message = "Trust policies are narrowed in a step of its own, after the switch."
  }

  assert {
    condition     = aws_lambda_function.fibonacci.runtime == "provided.al2023" && aws_lambda_function.fibonacci.publish_to == "LATEST_PUBLISHED"
    error_message = "The Rust function must be published in the Python function's place."
  }

  assert {
    condition     = [for rule in aws_security_group.lambda_managed_instances[0].egress : rule.protocol] == ["tcp"]
    error_message = "The rule that lets everything out must go."
  }
}
