data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
}

# Lambda launches the instances with this role.
resource "aws_iam_role" "capacity_provider_operator" {
  count = local.creates_capacity_provider ? 1 : 0

  # Prefix and description are the Python system's. Another prefix would replace the role and the capacity provider.
  name_prefix          = "${var.function_name}-cp-operator-"
  description          = "Operator role for Lambda Managed Instances capacity provider - grants Lambda service permissions to manage EC2 resources"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account_id }
        ArnEquals    = { "aws:SourceArn" = "arn:${local.partition}:lambda:${var.region}:${local.account_id}:capacity-provider:${local.capacity_provider_name}" }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "operator_policy" {
  count = local.creates_capacity_provider ? 1 : 0

  role = aws_iam_role.capacity_provider_operator[0].name
  # Not a copy, because AWS keeps adding what Lambda needs.
  policy_arn = "arn:${local.partition}:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
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

# The function runs with this role.
resource "aws_iam_role" "lambda_role" {
  name                 = "${var.function_name}-${var.region}-role" # role names are global in an account
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      # No aws:SourceArn: AWS does not say whether Lambda sends it before the function exists.
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  })

  lifecycle {
    # A role that was taken over keeps its name: the Python system's has no Region in it.
    ignore_changes = [name]
  }
}

resource "aws_iam_role_policy" "logs" {
  name = "logs"
  role = aws_iam_role.lambda_role.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function.arn}:*" # its streams, which Lambda names
    }]
  })
}
