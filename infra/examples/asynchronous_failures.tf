# Sends asynchronous invocations that failed to an existing SQS queue.
locals {
  failures_queue_arn = "arn:aws:sqs:us-east-1:123456789012:fibonacci-failures"
}

resource "aws_lambda_function_event_invoke_config" "failures" {
  function_name = aws_lambda_function.fibonacci.function_name
  qualifier     = "$LATEST.PUBLISHED"

  destination_config {
    on_failure {
      destination = local.failures_queue_arn
    }
  }

  depends_on = [aws_iam_role_policy.failures, aws_lambda_function_scaling_config.latest_published]

  lifecycle {
    replace_triggered_by = [aws_lambda_function.fibonacci.arn]
  }
}

resource "aws_iam_role_policy" "failures" {
  name = "failures"
  role = aws_iam_role.lambda_role.name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = local.failures_queue_arn }]
  })
}
