# Traces invocations with AWS X-Ray. The instances need a way to X-Ray as well: NAT or an endpoint.
resource "aws_lambda_function" "fibonacci" {
  tracing_config {
    mode = "Active"
  }
}

resource "aws_iam_role_policy" "logs" {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.function.arn}:*"
      },
      {
        Effect   = "Allow"
        Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        Resource = "*" # X-Ray knows no resources for these
      },
    ]
  })
}
