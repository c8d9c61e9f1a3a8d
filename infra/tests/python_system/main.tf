# The resources of the Python system's state: addresses, and arguments that force a replacement.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "vpc_id" {
  type = string
}

variable "function_name" {
  type    = string
  default = "fibonacci-generator"
}

locals {
  trust_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Action = "sts:AssumeRole", Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_security_group" "lambda_managed_instances" {
  name_prefix = "${var.function_name}-managed-instances-"
  description = "Security group for Lambda Managed Instances - allows outbound traffic for Lambda service communication"
  vpc_id      = var.vpc_id

  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
    description = "Allow all outbound traffic for Lambda service communication and AWS API access"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_iam_role" "capacity_provider_operator" {
  name_prefix        = "${var.function_name}-cp-operator-"
  path               = "/" # AWS's provider sets it
  description        = "Operator role for Lambda Managed Instances capacity provider - grants Lambda service permissions to manage EC2 resources"
  assume_role_policy = local.trust_policy
}

resource "aws_iam_role_policy_attachment" "operator_policy" {
  role       = aws_iam_role.capacity_provider_operator.name
  policy_arn = "arn:aws:iam::aws:policy/AWSLambdaManagedEC2ResourceOperator"
}

resource "aws_lambda_capacity_provider" "main" {
  name = "${var.function_name}-capacity-provider"

  vpc_config {
    subnet_ids         = ["subnet-0a000001", "subnet-0a000002", "subnet-0b000001"]
    security_group_ids = [aws_security_group.lambda_managed_instances.id]
  }

  permissions_config {
    capacity_provider_operator_role_arn = aws_iam_role.capacity_provider_operator.arn
  }

  instance_requirements = [{
    architectures           = ["x86_64"]
    allowed_instance_types  = null
    excluded_instance_types = null
  }]

  capacity_provider_scaling_config = [{
    scaling_mode     = "Auto"
    max_vcpu_count   = 16
    scaling_policies = null
  }]

  depends_on = [aws_iam_role_policy_attachment.operator_policy]
}

resource "aws_iam_role" "lambda_role" {
  name               = "${var.function_name}-role"
  path               = "/"
  assume_role_policy = local.trust_policy
}

resource "aws_iam_role_policy_attachment" "lambda_basic_execution" {
  role       = aws_iam_role.lambda_role.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_lambda_function" "fibonacci" {
  filename      = "lambda_function.zip"
  function_name = var.function_name
  role          = aws_iam_role.lambda_role.arn
  handler       = "lambda_function.lambda_handler"
  runtime       = "python3.13"
  memory_size   = 2048
  timeout       = 10
  publish       = true

  capacity_provider_config {
    lambda_managed_instances_capacity_provider_config {
      capacity_provider_arn = aws_lambda_capacity_provider.main.arn
    }
  }

  depends_on = [aws_iam_role_policy_attachment.lambda_basic_execution, aws_lambda_capacity_provider.main]

  lifecycle {
    create_before_destroy = true
  }
}

# As the outputs of infra/ are.
output "identities" {
  value = [aws_lambda_function.fibonacci.arn, aws_iam_role.capacity_provider_operator.arn, aws_security_group.lambda_managed_instances.id, aws_iam_role.lambda_role.name]
}
