locals {
  # Lambda acts for this account only. AWS does not say whether Lambda sends aws:SourceArn before the capacity provider or the
  # function exists, and a role that Lambda cannot assume then makes the first apply fail. So neither role asks for it.
  lambda_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  })
}

# Lambda launches the instances with this role.
resource "aws_iam_role" "capacity_provider_operator" {
  count = local.creates_capacity_provider ? 1 : 0

  # Prefix and description are the Python system's. Another prefix would replace the role and the capacity provider.
  name_prefix          = "${var.function_name}-cp-operator-"
  description          = "Operator role for Lambda Managed Instances capacity provider - grants Lambda service permissions to manage EC2 resources"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary_arn
  assume_role_policy   = local.lambda_trust_policy
}

resource "aws_iam_role_policy_attachment" "operator_policy" {
  count = local.creates_capacity_provider ? 1 : 0

  role = aws_iam_role.capacity_provider_operator[0].name
  # Not a copy, because AWS keeps adding what Lambda needs.
  policy_arn = "arn:${local.partition}:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
}

locals {
  ec2_service = "ec2.${local.region}.${data.aws_partition.current.dns_suffix}"
}

resource "aws_iam_role_policy" "operator_kms" {
  count = var.kms_key_arn == null ? 0 : 1

  name = "volumes-key"
  role = aws_iam_role.capacity_provider_operator[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    # Volumes are EC2's, so only EC2 may use the key for the role. A description of the key holds no secret.
    Statement = [
      {
        Effect   = "Allow"
        Action   = "kms:DescribeKey"
        Resource = var.kms_key_arn
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"]
        Resource  = var.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = local.ec2_service } }
      },
      {
        Effect   = "Allow"
        Action   = "kms:CreateGrant"
        Resource = var.kms_key_arn
        Condition = {
          StringEquals = { "kms:ViaService" = local.ec2_service }
          Bool         = { "kms:GrantIsForAWSResource" = "true" }
        }
      },
    ]
  })
}

locals {
  creates_execution_role = var.execution_role_arn == null
  execution_role_arn     = local.creates_execution_role ? one(aws_iam_role.lambda_role[*].arn) : var.execution_role_arn
}

# The function runs with this role.
resource "aws_iam_role" "lambda_role" {
  count = local.creates_execution_role ? 1 : 0

  name                 = "${var.function_name}-${local.region}-role" # role names are global in an account
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary_arn
  assume_role_policy   = local.lambda_trust_policy

  lifecycle {
    # A role that was taken over keeps its name: the Python system's has no Region in it.
    ignore_changes = [name]
  }
}

resource "aws_iam_role_policy" "logs" {
  count = local.creates_execution_role ? 1 : 0

  name = "logs"
  role = aws_iam_role.lambda_role[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function.arn}:*" # its streams, which Lambda names
    }]
  })
}
