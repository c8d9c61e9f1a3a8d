# Invokes the function with the messages of an existing SQS queue. It is for a function of your own: this one answers
# each batch with statusCode 400, which counts as success, so the messages go.
locals {
  queue_arn = "arn:aws:sqs:us-east-1:123456789012:work"
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn = local.queue_arn
  # Without a qualifier it invokes $LATEST.PUBLISHED.
  function_name = module.fibonacci.lambda_function_arn
  batch_size    = 10

  scaling_config {
    maximum_concurrency = 48 # of three execution environments, by default
  }

  depends_on = [aws_iam_role_policy.queue, module.fibonacci]

  lifecycle {
    replace_triggered_by = [terraform_data.event_source]
  }
}

resource "aws_iam_role_policy" "queue" {
  name = "queue"
  role = module.fibonacci.execution_role_name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      Resource = local.queue_arn
    }]
  })
}

# A function that is replaced loses what refers to it here.
resource "terraform_data" "event_source" {
  input = module.fibonacci.lambda_function_arn
}
