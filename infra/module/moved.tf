# Addresses of the Python system and of earlier releases, where these resources had no count.

moved {
  from = aws_security_group.lambda_managed_instances
  to   = aws_security_group.lambda_managed_instances[0]
}

moved {
  from = aws_iam_role.capacity_provider_operator
  to   = aws_iam_role.capacity_provider_operator[0]
}

moved {
  from = aws_iam_role_policy_attachment.operator_policy
  to   = aws_iam_role_policy_attachment.operator_policy[0]
}

moved {
  from = aws_lambda_capacity_provider.main
  to   = aws_lambda_capacity_provider.main[0]
}

moved {
  from = aws_iam_role.lambda_role
  to   = aws_iam_role.lambda_role[0]
}

moved {
  from = aws_iam_role_policy.logs
  to   = aws_iam_role_policy.logs[0]
}
