# EventBridge Scheduler changes the bounds of the execution environments at the times of scaling_schedules.

locals {
  scheduled = length(var.scaling_schedules) > 0
}

resource "aws_scheduler_schedule_group" "scaling" {
  count = local.scheduled ? 1 : 0
  name  = var.function_name
}

resource "aws_scheduler_schedule" "scaling" {
  #checkov:skip=CKV_AWS_297:a schedule holds two numbers and no secret; AWS encrypts it

  for_each = var.scaling_schedules

  name                         = each.key
  group_name                   = aws_scheduler_schedule_group.scaling[0].name
  schedule_expression          = "cron(${each.value.cron})"
  schedule_expression_timezone = each.value.time_zone

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:${local.partition}:scheduler:::aws-sdk:lambda:putFunctionScalingConfig"
    role_arn = aws_iam_role.scheduler[0].arn
    input = jsonencode({
      FunctionName = aws_lambda_function.fibonacci.function_name
      Qualifier    = aws_lambda_function_scaling_config.latest_published.qualifier
      FunctionScalingConfig = {
        MinExecutionEnvironments = each.value.min_execution_environments
        MaxExecutionEnvironments = each.value.max_execution_environments
      }
    })

    # Lambda refuses a change while it publishes. After an hour the next schedule may be near.
    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 60
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}

resource "aws_iam_role" "scheduler" {
  count = local.scheduled ? 1 : 0

  name                 = "${var.function_name}-${var.region}-scheduler"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account_id
          "aws:SourceArn"     = "arn:${local.partition}:scheduler:${var.region}:${local.account_id}:schedule-group/${var.function_name}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  count = local.scheduled ? 1 : 0

  name = "scaling"
  role = aws_iam_role.scheduler[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow"
      Action = "lambda:PutFunctionScalingConfig"
      # AWS's examples name one or the other.
      Resource = [aws_lambda_function.fibonacci.arn, "${aws_lambda_function.fibonacci.arn}:${aws_lambda_function_scaling_config.latest_published.qualifier}"]
    }]
  })
}
