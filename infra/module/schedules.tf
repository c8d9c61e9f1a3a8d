# EventBridge Scheduler changes the bounds of the execution environments at the times of scaling_schedules.

locals {
  scheduled = length(var.scaling_schedules) > 0

  # The values of each field of a cron expression. A field has values, ranges of them and *, with steps, in a list.
  cron_values = {
    minute  = "[0-5]?[0-9]"
    hour    = "[01]?[0-9]|2[0-3]"
    day     = "0?[1-9]|[12][0-9]|3[01]"
    month   = "0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
    weekday = "[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT"
    year    = "19[7-9][0-9]|2[01][0-9][0-9]"
  }
  cron_items = { for name, value in local.cron_values : name => "([*]|(${value})(-(${value}))?)(/[1-9][0-9]*)?" }
  # L is the last, W the nearest working day, # which one of the month.
  cron_fields = { for name, item in merge(local.cron_items, {
    day     = "${local.cron_items.day}|(${local.cron_values.day})W|LW?|L-[0-9]+"
    weekday = "${local.cron_items.weekday}|(${local.cron_values.weekday})?L|(${local.cron_values.weekday})#[1-5]"
  }) : name => "(${item})(,(${item}))*" }

  cron_pattern = format("^(%s) (%s) ([?] (%s) (%s)|(%s) (%s) [?]) (%s)$", local.cron_fields.minute, local.cron_fields.hour,
  local.cron_fields.month, local.cron_fields.weekday, local.cron_fields.day, local.cron_fields.month, local.cron_fields.year)

  days_of_short_months = { "2" = 29, FEB = 29, "4" = 30, APR = 30, "6" = 30, JUN = 30, "9" = 30, SEP = 30, "11" = 30, NOV = 30 }
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

  name                 = "${var.function_name}-${local.region}-scheduler"
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
          "aws:SourceArn"     = "arn:${local.partition}:scheduler:${local.region}:${local.account_id}:schedule-group/${var.function_name}"
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
