# What had no count in earlier releases, beside what the Python system has as well.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

resource "aws_iam_role" "lambda_role" {
  name               = "fibonacci-generator-us-east-1-role"
  assume_role_policy = jsonencode({})
}

resource "aws_iam_role_policy" "logs" {
  name   = "logs"
  role   = aws_iam_role.lambda_role.name
  policy = jsonencode({})
}
