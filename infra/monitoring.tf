resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_338:how long logs are kept is log_retention_days
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts it; a key of one's own is logs_kms_key_arn

  name              = "/aws/lambda/${var.function_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.logs_kms_key_arn
}

locals {
  alarm_actions = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]

  # Dimensions of an execution environment's metrics: Lambda publishes them per version, never for the function as a whole.
  version_dimensions = {
    CapacityProviderName = local.capacity_provider_name
    FunctionName         = var.function_name
    Resource             = "${var.function_name}:$LATEST.PUBLISHED"
  }
}

# Bad input gets a reply with statusCode 400, which is no error: each error here is a defect, a time-out or a crash.
resource "aws_cloudwatch_metric_alarm" "errors" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-errors"
  alarm_description   = "Invocations ended in a function error: see the log group ${aws_cloudwatch_log_group.function.name}."
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
  alarm_description   = "More than 1 % of the calls were throttled for 5 minutes: ConcurrencyThrottles, CPUThrottles, MemoryThrottles and DiskThrottles say why."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  # A throttled call is not among Invocations.
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

# The metrics of the instances come every 5 minutes.
resource "aws_cloudwatch_metric_alarm" "concurrency" {
  count = var.create_monitoring ? 1 : 0

  alarm_name          = "${var.function_name}-concurrency"
  alarm_description   = "The execution environments use more than 80 % of their concurrency: raise max_concurrency, or max_execution_environments."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 80
  evaluation_periods  = 2
  treat_missing_data  = "missing" # no data means no environment, or a metric that changed: worth seeing
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

resource "aws_cloudwatch_metric_alarm" "vcpu" {
  count = var.create_monitoring ? 1 : 0

  alarm_name        = "${var.function_name}-vcpu"
  alarm_description = "The capacity provider is near its ceiling of ${var.capacity_provider_max_vcpu} vCPUs, beyond which callers are throttled: raise capacity_provider_max_vcpu."
  # Each instance keeps a vCPU for itself, so less than the ceiling can be allocated.
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0.7 * var.capacity_provider_max_vcpu
  evaluation_periods  = 2
  treat_missing_data  = "missing"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  # There is one metric per instance type, and the types are Lambda's choice: only a query can add them up.
  metric_query {
    id          = "allocated"
    label       = "vCPUs allocated"
    expression  = "SELECT SUM(vCPUAllocated) FROM SCHEMA(\"AWS/Lambda\", CapacityProviderName, InstanceType) WHERE CapacityProviderName = '${local.capacity_provider_name}'"
    period      = 300
    return_data = true
  }
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
      # Each environment sends one value per period.
      title  = "Execution environments"
      period = 300
      metrics = [
        concat(["AWS/Lambda", "ExecutionEnvironmentConcurrency"], local.version_dimension_list, [{ stat = "SampleCount", label = "running" }]),
      ]
    },
    {
      title  = "CPU and memory of the instances (%)"
      period = 300
      metrics = [for name in ["CPUUtilization", "MemoryUtilization"] :
      [{ expression = "SEARCH('{AWS/Lambda,CapacityProviderName,InstanceType} MetricName=\"${name}\" CapacityProviderName=\"${local.capacity_provider_name}\"', 'Average', 300)" }]]
    },
    {
      title  = "vCPUs of the capacity provider, and 70 % of its ceiling"
      period = 300
      metrics = [for name in ["vCPUAllocated", "vCPUAvailable"] :
      [{ expression = "SEARCH('{AWS/Lambda,CapacityProviderName,InstanceType} MetricName=\"${name}\" CapacityProviderName=\"${local.capacity_provider_name}\"', 'Sum', 300)" }]]
      annotations = { horizontal = [{ label = "alarm", value = 0.7 * var.capacity_provider_max_vcpu }] }
    },
  ]
}

resource "aws_cloudwatch_dashboard" "main" {
  count = var.create_monitoring ? 1 : 0

  dashboard_name = var.function_name
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.widgets : {
      type   = "metric"
      x      = index % 2 * 12
      y      = floor(index / 2) * 6
      width  = 12
      height = 6
      properties = {
        region      = var.region
        view        = "timeSeries"
        title       = widget.title
        period      = widget.period
        metrics     = widget.metrics
        annotations = try(widget.annotations, {})
      }
    }]
  })
}
