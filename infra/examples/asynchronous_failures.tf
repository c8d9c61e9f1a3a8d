# Sends asynchronous invocations that failed to an existing SQS queue.
locals {
  failures_queue_arn = "arn:aws:sqs:us-east-1:123456789012:fibonacci-failures"
}

resource "aws_lambda_function_event_invoke_config" "failures" {
  function_name = module.fibonacci.lambda_function_name
  qualifier     = "$LATEST.PUBLISHED"

  destination_config {
    on_failure {
      destination = local.failures_queue_arn
    }
  }

  depends_on = [aws_iam_role_policy.failures, module.fibonacci]

  lifecycle {
    replace_triggered_by = [terraform_data.asynchronous_failures]
  }
}

resource "aws_iam_role_policy" "failures" {
  name = "failures"
  role = module.fibonacci.execution_role_name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = local.failures_queue_arn }]
  })
}

# A function that is replaced loses what refers to it here.
resource "terraform_data" "asynchronous_failures" {
  input = module.fibonacci.lambda_function_arn
}
