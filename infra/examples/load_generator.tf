# A load generator for `cargo loadtest --generators`, on ordinary Lambda. See loadtest/README.md. Build it in the repository's root:
#   cargo lambda build --release --x86-64 --package loadtest --output-format zip
# To remove it, delete this file and apply.
locals {
  generator_name = "${module.fibonacci.lambda_function_name}-load"
  generator_zip  = "../target/lambda/loadtest/bootstrap.zip"
}

resource "aws_lambda_function" "generator" {
  function_name    = local.generator_name
  role             = aws_iam_role.generator.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = ["x86_64"]
  filename         = local.generator_zip
  source_code_hash = fileexists(local.generator_zip) ? filebase64sha256(local.generator_zip) : null
  memory_size      = 2048 # more than a vCPU
  timeout          = 900

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.generator.name
  }

  depends_on = [aws_iam_role_policy.generator]
}

resource "aws_cloudwatch_log_group" "generator" {
  name              = "/aws/lambda/${local.generator_name}"
  retention_in_days = 7
}

data "aws_caller_identity" "generator" {}

resource "aws_iam_role" "generator" {
  name_prefix = "${local.generator_name}-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.generator.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "generator" {
  name = "load"
  role = aws_iam_role.generator.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = [module.fibonacci.lambda_function_arn, "${module.fibonacci.lambda_function_arn}:*"]
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.generator.arn}:*"
      },
    ]
  })
}

output "generator_function" {
  description = "Name of the load generator, for --generator-function."
  value       = aws_lambda_function.generator.function_name
}
