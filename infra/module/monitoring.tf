resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_338:log_retention_days sets how long the log is kept

  name              = "/aws/lambda/${var.function_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.logs_kms_key_arn

  deletion_protection_enabled = var.log_deletion_protection_enabled
}

# Lambda's own log about the instances.
resource "aws_cloudwatch_log_group" "capacity_provider" {
  count = local.creates_capacity_provider ? 1 : 0

  name              = "/aws/lambda/capacity-provider/${local.capacity_provider_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.logs_kms_key_arn

  deletion_protection_enabled = var.log_deletion_protection_enabled
}

locals {
  alarm_actions = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]

  # Dimensions of an execution environment's metrics. Lambda publishes them per version, never for the whole function.
  version_dimensions = {
    CapacityProviderName = local.capacity_provider_name
    FunctionName         = var.function_name
    Resource             = "${var.function_name}:$LATEST.PUBLISHED"
  }
}

# An invocation with bad input is no error: it gets a reply with statusCode 400. Each error is a defect, a time-out or a crash.
resource "aws_cloudwatch_metric_alarm" "errors" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-errors"
  alarm_description   = "Invocations ended in a function error. See the log group ${aws_cloudwatch_log_group.function.name}."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = var.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-throttles"
  alarm_description   = "More than 1 % of the calls were throttled for 5 minutes. ConcurrencyThrottles, CPUThrottles, MemoryThrottles and DiskThrottles say why."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  # Invocations does not count throttled calls.
  metric_query {
    id          = "throttled"
    label       = "Throttled calls in percent"
    expression  = "100 * throttles / (FILL(invocations, 0) + throttles)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { invocations = "Invocations", throttles = "Throttles" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        dimensions  = { FunctionName = var.function_name }
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "duration" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-duration"
  alarm_description   = "The slowest 1 % of the invocations took more than 80 % of the timeout of ${var.timeout} s for 3 of 5 minutes."
  namespace           = "AWS/Lambda"
  metric_name         = "Duration"
  dimensions          = { FunctionName = var.function_name }
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0.8 * var.timeout * 1000 # ms
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# Lambda sends the metrics of environments and instances every 5 minutes.
resource "aws_cloudwatch_metric_alarm" "concurrency" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-concurrency"
  alarm_description   = "The execution environments use more than 80 % of their concurrency: raise max_concurrency or max_execution_environments."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 80
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching" # a function that is switched off sends none
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  metric_query {
    id          = "used"
    label       = "Concurrency in percent of its limit"
    expression  = "100 * concurrency / concurrency_limit"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { concurrency = "ExecutionEnvironmentConcurrency", concurrency_limit = "ExecutionEnvironmentConcurrencyLimit" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        dimensions  = local.version_dimensions
        stat        = "Average"
        period      = 300
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "utilization" {
  for_each = !var.create_monitoring ? {} : {
    cpu    = { metric = "ExecutionEnvironmentCPUUtilization", percent = 80, remedy = "lower target_cpu_utilization or raise max_execution_environments" }
    memory = { metric = "ExecutionEnvironmentMemoryUtilization", percent = 90, remedy = "raise memory_size or lower max_concurrency" }
  }

  alarm_name          = "${var.function_name}-${each.key}"
  alarm_description   = "The execution environments use more than ${each.value.percent} % of their ${each.key == "cpu" ? "CPU" : "memory"}: ${each.value.remedy}."
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = local.version_dimensions
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.percent
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

locals {
  # Terraform's bounds, or those that the schedules set in turn.
  all_bounds = !local.scheduled ? [local.execution_environments] : [for schedule in var.scaling_schedules : {
    min_execution_environments = schedule.min_execution_environments
    max_execution_environments = schedule.max_execution_environments
  }]
  max_environments = max(local.all_bounds[*].max_execution_environments...)
  # If minimum and maximum are equal, the environments are always at their maximum.
  scales_to_max = alltrue([for bounds in local.all_bounds : bounds.min_execution_environments < bounds.max_execution_environments if bounds.max_execution_environments == local.max_environments])
}

# There is no such alarm on the vCPU ceiling: the instances reserve vCPUs of it, and how many depends on the types that Lambda chooses.
resource "aws_cloudwatch_metric_alarm" "environments" {
  count = var.create_monitoring && local.scales_to_max ? 1 : 0

  alarm_name          = "${var.function_name}-environments"
  alarm_description   = "The maximum of ${local.max_environments} execution environments is running, so more traffic would be throttled: raise capacity_provider_max_vcpu or max_execution_environments."
  namespace           = "AWS/Lambda"
  metric_name         = "ExecutionEnvironmentConcurrency"
  dimensions          = local.version_dimensions
  statistic           = "SampleCount" # each environment sends one value per period
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = local.max_environments
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# LaunchFailed, TerminateFailed and HealthCheckFailed are warnings, and AWS adds events, so this counts all of a level.
resource "aws_cloudwatch_log_metric_filter" "instances" {
  count = var.create_monitoring && local.creates_capacity_provider ? 1 : 0

  name           = "warnings"
  log_group_name = aws_cloudwatch_log_group.capacity_provider[0].name
  pattern        = "{ $.level = \"WARN\" || $.level = \"ERROR\" }"

  metric_transformation {
    namespace = local.capacity_provider_name
    name      = "Warnings"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "instances" {
  count = var.create_monitoring && local.creates_capacity_provider ? 1 : 0

  alarm_name          = "${var.function_name}-instances"
  alarm_description   = "For 10 of 15 minutes Lambda could not launch or terminate instances, or found them unhealthy. See the log group ${aws_cloudwatch_log_group.capacity_provider[0].name}."
  namespace           = aws_cloudwatch_log_metric_filter.instances[0].metric_transformation[0].namespace
  metric_name         = aws_cloudwatch_log_metric_filter.instances[0].metric_transformation[0].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 3
  datapoints_to_alarm = 2 # Lambda replaces a single unhealthy instance by itself
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "schedules" {
  count = var.create_monitoring && local.scheduled ? 1 : 0

  alarm_name          = "${var.function_name}-schedules"
  alarm_description   = "A schedule could not change the number of execution environments, even after an hour of attempts. Set it with aws lambda put-function-scaling-config."
  namespace           = "AWS/Scheduler"
  metric_name         = "InvocationDroppedCount"
  dimensions          = { ScheduleGroup = aws_scheduler_schedule_group.scaling[0].name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

locals {
  version_dimension_list = flatten([for name, value in local.version_dimensions : [name, value]])

  widgets = [
    {
      title  = "Invocations, errors, throttles"
      period = 60
      metrics = [for name in ["Invocations", "Errors", "Throttles"] :
      ["AWS/Lambda", name, "FunctionName", var.function_name, { stat = "Sum" }]]
    },
    {
      title  = "Duration (ms)"
      period = 60
      metrics = [for stat in ["p50", "p99", "Maximum"] :
      ["AWS/Lambda", "Duration", "FunctionName", var.function_name, { stat = stat, label = stat }]]
    },
    {
      title  = "Why calls were throttled"
      period = 300
      metrics = [for name in ["ConcurrencyThrottles", "CPUThrottles", "MemoryThrottles", "DiskThrottles"] :
      ["AWS/Lambda", name, "FunctionName", var.function_name, { stat = "Sum" }]]
    },
    {
      title  = "Concurrency of an execution environment, and its limit"
      period = 300
      metrics = concat(
        [for stat in ["Average", "Maximum"] : concat(["AWS/Lambda", "ExecutionEnvironmentConcurrency"], local.version_dimension_list, [{ stat = stat, label = stat }])],
        [concat(["AWS/Lambda", "ExecutionEnvironmentConcurrencyLimit"], local.version_dimension_list, [{ stat = "Average", label = "limit" }])],
      )
    },
    {
      title  = "CPU and memory of an execution environment (%)"
      period = 300
      metrics = [for name in ["ExecutionEnvironmentCPUUtilization", "ExecutionEnvironmentMemoryUtilization"] :
      concat(["AWS/Lambda", name], local.version_dimension_list, [{ stat = "Average" }])]
    },
    {
      title  = "Execution environments"
      period = 300
      metrics = [
        concat(["AWS/Lambda", "ExecutionEnvironmentConcurrency"], local.version_dimension_list, [{ stat = "SampleCount", label = "running" }]),
      ]
      annotations = { horizontal = [{ label = "maximum", value = local.max_environments }] }
    },
    {
      title  = "CPU and memory of the instances (%)"
      period = 300
      metrics = [for name in ["CPUUtilization", "MemoryUtilization"] :
      [{ expression = "SEARCH('{AWS/Lambda,CapacityProviderName,InstanceType} MetricName=\"${name}\" CapacityProviderName=\"${local.capacity_provider_name}\"', 'Average', 300)" }]]
    },
    {
      # Beside these, each instance reserves one.
      title  = "vCPUs of the capacity provider, and its ceiling"
      period = 300
      metrics = [for name in ["vCPUAllocated", "vCPUAvailable"] :
      [{ expression = "SEARCH('{AWS/Lambda,CapacityProviderName,InstanceType} MetricName=\"${name}\" CapacityProviderName=\"${local.capacity_provider_name}\"', 'Sum', 300)" }]]
      annotations = { horizontal = [{ label = "ceiling", value = var.capacity_provider_max_vcpu }] }
    },
  ]
}

resource "aws_cloudwatch_dashboard" "main" {
  count = var.create_monitoring ? 1 : 0

  dashboard_name = "${var.function_name}-${local.region}" # dashboards are global in an account
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.widgets : {
      type   = "metric"
      x      = index % 2 * 12
      y      = floor(index / 2) * 6
      width  = 12
      height = 6
      properties = {
        region      = local.region
        view        = "timeSeries"
        title       = widget.title
        period      = widget.period
        metrics     = widget.metrics
        annotations = try(widget.annotations, {})
      }
    }]
  })
}
