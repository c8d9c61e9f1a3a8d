# Launches the instances with an existing operator role.
resource "aws_lambda_capacity_provider" "main" {
  permissions_config {
    capacity_provider_operator_role_arn = "arn:aws:iam::123456789012:role/lambda-operator"
  }
}

resource "aws_iam_role" "capacity_provider_operator" {
  count = 0
}

resource "aws_iam_role_policy_attachment" "operator_policy" {
  count = 0
}

# With kms_key_arn, the role must be allowed to use the key.
resource "aws_iam_role_policy" "operator_kms" {
  count = 0
}
