# EventBridge Scheduler changes the bounds of the execution environments, and Terraform leaves what it set.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
  scaling_schedules = {
    morning = { cron = "45 7 ? * MON-FRI *", time_zone = "Europe/Berlin", min_execution_environments = 3, max_execution_environments = 12 }
    evening = { cron = "0 19 ? * MON-FRI *", time_zone = "UTC", min_execution_environments = 0, max_execution_environments = 0 }
  }
}

run "calls_lambda_at_the_times_of_the_schedules" {
  command = plan

  assert {
    condition = { for name, schedule in aws_scheduler_schedule.scaling : name => [schedule.schedule_expression, schedule.schedule_expression_timezone, schedule.group_name, schedule.flexible_time_window[0].mode] } == {
      morning = ["cron(45 7 ? * MON-FRI *)", "Europe/Berlin", "fibonacci-generator", "OFF"]
      evening = ["cron(0 19 ? * MON-FRI *)", "UTC", "fibonacci-generator", "OFF"]
    }
    error_message = "Each schedule has its time, in its time zone, and belongs to the function's group."
  }

  assert {
    condition = [for name in ["morning", "evening"] : [aws_scheduler_schedule.scaling[name].target[0].arn, jsondecode(aws_scheduler_schedule.scaling[name].target[0].input)]] == [
      for bounds in [[3, 12], [0, 0]] : ["arn:aws:scheduler:::aws-sdk:lambda:putFunctionScalingConfig", {
        FunctionName          = "fibonacci-generator"
        Qualifier             = "$LATEST.PUBLISHED"
        FunctionScalingConfig = { MinExecutionEnvironments = bounds[0], MaxExecutionEnvironments = bounds[1] }
      }]
    ]
    error_message = "Each schedule must call PutFunctionScalingConfig with both bounds."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.schedules[0].dimensions == tomap({ ScheduleGroup = "fibonacci-generator" }) && aws_cloudwatch_metric_alarm.schedules[0].metric_name == "InvocationDroppedCount"
    error_message = "Somebody must learn of a schedule that had no effect."
  }

  assert {
    condition     = alltrue([for schedule in aws_scheduler_schedule.scaling : schedule.target[0].retry_policy[0] == { maximum_event_age_in_seconds = 3600, maximum_retry_attempts = 60 }])
    error_message = "Lambda refuses a change while it publishes, so a schedule must try for an hour."
  }
}

run "lets_the_scheduler_change_the_scaling_of_this_function_only" {
  assert {
    condition = jsondecode(aws_iam_role.scheduler[0].assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = {
        "aws:SourceAccount" = "123456789012"
        "aws:SourceArn"     = "arn:aws:scheduler:us-east-1:123456789012:schedule-group/fibonacci-generator"
      } }
    }]
    error_message = "The trust policy must name the scheduler, the account and the group."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.scheduler[0].policy).Statement == [{
      Effect   = "Allow"
      Action   = "lambda:PutFunctionScalingConfig"
      Resource = [aws_lambda_function.fibonacci.arn, "${aws_lambda_function.fibonacci.arn}:$LATEST.PUBLISHED"]
    }]
    error_message = "The role may do this one thing."
  }

  assert {
    condition     = aws_scheduler_schedule.scaling["morning"].target[0].role_arn == aws_iam_role.scheduler[0].arn
    error_message = "The schedules must use the role."
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 12 }
    error_message = "Until the first schedule the function has the bounds of the variables."
  }
}

run "waits_for_the_next_second" {
  module {
    source = "./tests/next_second"
  }
}

# The bounds of the last apply stand for what a schedule set.
run "leaves_what_a_schedule_set" {
  variables {
    min_execution_environments = 4
    max_execution_environments = 5
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 3, max_execution_environments = 12 }
    error_message = "An apply in the night must not start the environments of the day."
  }
}

run "sets_the_bounds_at_once_if_asked_to" {
  command = plan

  variables {
    min_execution_environments = 4
    max_execution_environments = 5
  }

  plan_options {
    replace = [terraform_data.scaling_created]
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 4, max_execution_environments = 5 }
    error_message = "README.md shows this for a function that must be switched on before its next schedule."
  }
}

run "sets_the_bounds_of_a_function_that_is_replaced" {
  variables {
    min_execution_environments = 4
    max_execution_environments = 5
  }

  plan_options {
    replace = [aws_lambda_function.fibonacci]
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 4, max_execution_environments = 5 }
    error_message = "A new function must not start with Lambda's bounds, which have no maximum."
  }
}

run "waits_for_the_second_after" {
  module {
    source = "./tests/next_second"
  }
}

run "sets_the_bounds_again_without_schedules" {
  variables {
    scaling_schedules          = {}
    min_execution_environments = 6
  }

  assert {
    condition     = aws_lambda_function_scaling_config.latest_published.function_scaling_config[0] == { min_execution_environments = 6, max_execution_environments = 12 } && length(aws_scheduler_schedule.scaling) == 0
    error_message = "Without schedules the variables count."
  }
}
