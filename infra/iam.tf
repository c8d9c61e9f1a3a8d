data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      # Only for resources of this account, whoever asks Lambda to assume the role.
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

# With it Lambda launches the instances.
resource "aws_iam_role" "capacity_provider_operator" {
  count = local.creates_capacity_provider ? 1 : 0

  name_prefix        = "${var.function_name}-cp-operator-" # the Python system's: another would replace role and capacity provider
  description        = "Lambda manages the instances of the capacity provider with this role"
  assume_role_policy = local.trust_policy
}

resource "aws_iam_role_policy_attachment" "operator_policy" {
  count = local.creates_capacity_provider ? 1 : 0

  role = aws_iam_role.capacity_provider_operator[0].name
  # AWS keeps adding what Lambda needs, so not a copy.
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
}

resource "aws_iam_role_policy" "operator_kms" {
  count = var.kms_key_arn == null ? 0 : 1

  name = "volumes-key"
  role = aws_iam_role.capacity_provider_operator[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
        Resource = var.kms_key_arn
      },
      {
        Effect    = "Allow"
        Action    = "kms:CreateGrant"
        Resource  = var.kms_key_arn
        Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
      },
    ]
  })
}

# With it the function runs.
resource "aws_iam_role" "lambda_role" {
  name               = "${var.function_name}-role"
  assume_role_policy = local.trust_policy
}

resource "aws_iam_role_policy" "logs" {
  name = "logs"
  role = aws_iam_role.lambda_role.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function.arn}:*" # its streams, whose names Lambda makes up
    }]
  })
}
