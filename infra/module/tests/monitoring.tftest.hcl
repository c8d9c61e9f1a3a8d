# Metrics, dimensions and periods: an alarm on a metric that does not exist never fires.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "raises_an_alarm_at_the_first_function_error" {
  command = plan

  assert {
    condition = [for alarm in aws_cloudwatch_metric_alarm.errors : [alarm.namespace, alarm.metric_name, alarm.dimensions, alarm.statistic, alarm.period, alarm.comparison_operator, alarm.threshold]] == [
      ["AWS/Lambda", "Errors", tomap({ FunctionName = "fibonacci-generator" }), "Sum", 60, "GreaterThanThreshold", 0]
    ]
    error_message = "The alarm must be on the errors of the function, per minute."
  }
}

run "raises_an_alarm_when_over_one_percent_is_throttled" {
  command = plan

  assert {
    condition = { for query in aws_cloudwatch_metric_alarm.throttles[0].metric_query : query.id => [for metric in query.metric : [metric.metric_name, metric.dimensions, metric.stat, metric.period]] if query.expression == null } == {
      throttles   = [["Throttles", tomap({ FunctionName = "fibonacci-generator" }), "Sum", 60]]
      invocations = [["Invocations", tomap({ FunctionName = "fibonacci-generator" }), "Sum", 60]]
    }
    error_message = "The alarm must be on throttles and invocations of the function, per minute."
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.throttles[0].metric_query : query.expression if query.return_data == true] == ["100 * throttles / (FILL(invocations, 0) + throttles)"]
    error_message = "The alarm is on throttles in percent of all calls, the throttled ones included."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.throttles[0].threshold == 1
    error_message = "The threshold must be one percent."
  }
}

run "raises_an_alarm_when_the_slowest_invocations_come_near_the_timeout" {
  command = plan

  variables {
    timeout = 30
  }

  assert {
    condition = [for alarm in aws_cloudwatch_metric_alarm.duration : [alarm.namespace, alarm.metric_name, alarm.dimensions, alarm.extended_statistic, alarm.period, alarm.threshold]] == [
      ["AWS/Lambda", "Duration", tomap({ FunctionName = "fibonacci-generator" }), "p99", 60, 24000]
    ]
    error_message = "The threshold must be 80 % of 30 s, in milliseconds."
  }
}

run "raises_an_alarm_when_the_concurrency_comes_near_its_limit" {
  command = plan

  assert {
    condition = { for query in aws_cloudwatch_metric_alarm.concurrency[0].metric_query : query.id => [for metric in query.metric : [metric.metric_name, metric.dimensions, metric.period]] if query.expression == null } == {
      concurrency       = [["ExecutionEnvironmentConcurrency", tomap({ CapacityProviderName = "fibonacci-generator-capacity-provider", FunctionName = "fibonacci-generator", Resource = "fibonacci-generator:$LATEST.PUBLISHED" }), 300]]
      concurrency_limit = [["ExecutionEnvironmentConcurrencyLimit", tomap({ CapacityProviderName = "fibonacci-generator-capacity-provider", FunctionName = "fibonacci-generator", Resource = "fibonacci-generator:$LATEST.PUBLISHED" }), 300]]
    }
    error_message = "These two come every 5 minutes and with three dimensions."
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.concurrency[0].metric_query : query.expression if query.return_data == true] == ["100 * concurrency / concurrency_limit"] && aws_cloudwatch_metric_alarm.concurrency[0].threshold == 80
    error_message = "The alarm must be on the one in percent of the other."
  }
}

run "raises_alarms_when_cpu_or_memory_of_the_environments_run_short" {
  command = plan

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.utilization : name => [alarm.metric_name, alarm.dimensions, alarm.statistic, alarm.period, alarm.comparison_operator, alarm.threshold] } == {
      cpu    = ["ExecutionEnvironmentCPUUtilization", tomap({ CapacityProviderName = "fibonacci-generator-capacity-provider", FunctionName = "fibonacci-generator", Resource = "fibonacci-generator:$LATEST.PUBLISHED" }), "Average", 300, "GreaterThanThreshold", 80]
      memory = ["ExecutionEnvironmentMemoryUtilization", tomap({ CapacityProviderName = "fibonacci-generator-capacity-provider", FunctionName = "fibonacci-generator", Resource = "fibonacci-generator:$LATEST.PUBLISHED" }), "Average", 300, "GreaterThanThreshold", 90]
    }
    error_message = "AWS advises 80 % of the CPU and 90 % of the memory."
  }
}

run "raises_an_alarm_when_the_environments_are_at_their_maximum" {
  command = plan

  assert {
    condition = [for alarm in aws_cloudwatch_metric_alarm.environments : [alarm.metric_name, alarm.dimensions, alarm.statistic, alarm.period, alarm.comparison_operator, alarm.threshold]] == [
      ["ExecutionEnvironmentConcurrency", tomap({ CapacityProviderName = "fibonacci-generator-capacity-provider", FunctionName = "fibonacci-generator", Resource = "fibonacci-generator:$LATEST.PUBLISHED" }), "SampleCount", 300, "GreaterThanOrEqualToThreshold", 12]
    ]
    error_message = "Each environment sends one value per period, and 12 fit under the ceiling."
  }
}

# README.md and the descriptions of the alarms name these times. A null means all periods.
run "raises_alarms_after_the_times_that_readme_names" {
  command = plan

  assert {
    condition = jsonencode({ for name, alarm in {
      errors       = aws_cloudwatch_metric_alarm.errors[0]
      throttles    = aws_cloudwatch_metric_alarm.throttles[0]
      duration     = aws_cloudwatch_metric_alarm.duration[0]
      concurrency  = aws_cloudwatch_metric_alarm.concurrency[0]
      cpu          = aws_cloudwatch_metric_alarm.utilization["cpu"]
      memory       = aws_cloudwatch_metric_alarm.utilization["memory"]
      environments = aws_cloudwatch_metric_alarm.environments[0]
      instances    = aws_cloudwatch_metric_alarm.instances[0]
      } : name => [alarm.evaluation_periods, alarm.datapoints_to_alarm] }) == jsonencode({
      errors       = [1, null]
      throttles    = [5, null]
      duration     = [5, 3]
      concurrency  = [2, null]
      cpu          = [2, null]
      memory       = [2, null]
      environments = [2, null]
      instances    = [3, 2]
    })
    error_message = "An alarm must need as many periods as it says."
  }
}

run "raises_no_alarm_when_a_fixed_number_of_environments_is_at_its_maximum" {
  command = plan

  variables {
    max_execution_environments = 3
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.environments) == 0
    error_message = "Three of three environments always run."
  }
}

run "raises_an_alarm_when_instances_keep_failing" {
  command = plan

  assert {
    condition     = aws_cloudwatch_log_metric_filter.instances[0].log_group_name == "/aws/lambda/capacity-provider/fibonacci-generator-capacity-provider" && aws_cloudwatch_log_metric_filter.instances[0].pattern == "{ $.level = \"WARN\" || $.level = \"ERROR\" }"
    error_message = "Failed launches are warnings in the capacity provider's log."
  }

  assert {
    condition = [for alarm in aws_cloudwatch_metric_alarm.instances : [alarm.namespace, alarm.metric_name, alarm.statistic, alarm.period, alarm.threshold]] == [
      [aws_cloudwatch_log_metric_filter.instances[0].metric_transformation[0].namespace, aws_cloudwatch_log_metric_filter.instances[0].metric_transformation[0].name, "Sum", 300, 0]
    ]
    error_message = "The alarm must be on the filter's metric."
  }
}

run "stays_quiet_while_nothing_runs" {
  command = plan

  variables {
    scaling_schedules = {
      morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
      evening = { cron = "0 19 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 0, max_execution_environments = 0 }
    }
  }

  assert {
    condition = alltrue([
      for alarm in concat(
        aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.throttles, aws_cloudwatch_metric_alarm.duration, aws_cloudwatch_metric_alarm.concurrency,
        values(aws_cloudwatch_metric_alarm.utilization), aws_cloudwatch_metric_alarm.environments, aws_cloudwatch_metric_alarm.instances, aws_cloudwatch_metric_alarm.schedules,
      ) : alarm.treat_missing_data == "notBreaching"
    ])
    error_message = "A function that is switched off sends no metrics."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.environments[0].threshold == 12
    error_message = "The maximum of the night must not be the alarm's."
  }
}

run "notifies_nobody_unless_asked" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.errors[0].alarm_actions) == 0
    error_message = "Without a topic there is no action."
  }
}

run "notifies_the_topic_of_every_alarm_and_of_its_end" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws:sns:us-east-1:123456789012:alarms"
    scaling_schedules = {
      morning = { cron = "45 7 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 3, max_execution_environments = 12 }
    }
  }

  assert {
    condition = alltrue([
      for alarm in concat(aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.throttles, aws_cloudwatch_metric_alarm.duration, aws_cloudwatch_metric_alarm.concurrency, values(aws_cloudwatch_metric_alarm.utilization), aws_cloudwatch_metric_alarm.environments, aws_cloudwatch_metric_alarm.instances, aws_cloudwatch_metric_alarm.schedules) :
      alarm.alarm_actions == toset(["arn:aws:sns:us-east-1:123456789012:alarms"]) && alarm.ok_actions == alarm.alarm_actions
    ])
    error_message = "Every alarm must notify the topic."
  }
}

run "draws_the_metrics_of_managed_instances" {
  command = plan

  assert {
    condition = alltrue([
      for name in [
        "Invocations", "Errors", "Throttles", "Duration",
        "ConcurrencyThrottles", "CPUThrottles", "MemoryThrottles", "DiskThrottles",
        "ExecutionEnvironmentConcurrency", "ExecutionEnvironmentConcurrencyLimit", "ExecutionEnvironmentCPUUtilization", "ExecutionEnvironmentMemoryUtilization",
      ] : contains(flatten([for widget in jsondecode(aws_cloudwatch_dashboard.main[0].dashboard_body).widgets : [for metric in widget.properties.metrics : try(metric[1], "")]]), name)
    ])
    error_message = "The dashboard must show each of these metrics."
  }

  assert {
    condition = alltrue([
      for name in ["CPUUtilization", "MemoryUtilization", "vCPUAllocated", "vCPUAvailable"] :
      strcontains(aws_cloudwatch_dashboard.main[0].dashboard_body, "{AWS/Lambda,CapacityProviderName,InstanceType} MetricName=\\\"${name}\\\" CapacityProviderName=\\\"fibonacci-generator-capacity-provider\\\"")
    ])
    error_message = "The capacity provider's metrics are found by search, as their instance types are not known."
  }

  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.main[0].dashboard_body).widgets : [
        for metric in widget.properties.metrics : widget.properties.period >= 300 if strcontains(jsonencode(metric), "CapacityProviderName")
      ]
    ]))
    error_message = "Metrics that arrive every 5 minutes must not be drawn per minute."
  }
}
