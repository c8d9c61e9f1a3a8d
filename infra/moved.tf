# Addresses of the Python system and of earlier releases, which had no module.

moved {
  from = aws_iam_role.capacity_provider_operator
  to   = module.fibonacci.aws_iam_role.capacity_provider_operator
}

moved {
  from = aws_iam_role_policy_attachment.operator_policy
  to   = module.fibonacci.aws_iam_role_policy_attachment.operator_policy
}

moved {
  from = aws_iam_role_policy.operator_kms
  to   = module.fibonacci.aws_iam_role_policy.operator_kms
}

moved {
  from = aws_iam_role.lambda_role
  to   = module.fibonacci.aws_iam_role.lambda_role
}

moved {
  from = aws_iam_role_policy.logs
  to   = module.fibonacci.aws_iam_role_policy.logs
}

moved {
  from = aws_lambda_capacity_provider.main
  to   = module.fibonacci.aws_lambda_capacity_provider.main
}

moved {
  from = terraform_data.volumes_key
  to   = module.fibonacci.terraform_data.volumes_key
}

moved {
  from = terraform_data.capacity_provider
  to   = module.fibonacci.terraform_data.capacity_provider
}

moved {
  from = aws_lambda_function.fibonacci
  to   = module.fibonacci.aws_lambda_function.fibonacci
}

moved {
  from = terraform_data.scaling_created
  to   = module.fibonacci.terraform_data.scaling_created
}

moved {
  from = aws_lambda_function_scaling_config.latest_published
  to   = module.fibonacci.aws_lambda_function_scaling_config.latest_published
}

moved {
  from = aws_lambda_function_url.main
  to   = module.fibonacci.aws_lambda_function_url.main
}

moved {
  from = aws_cloudwatch_log_group.function
  to   = module.fibonacci.aws_cloudwatch_log_group.function
}

moved {
  from = aws_cloudwatch_log_group.capacity_provider
  to   = module.fibonacci.aws_cloudwatch_log_group.capacity_provider
}

moved {
  from = aws_cloudwatch_metric_alarm.errors
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.errors
}

moved {
  from = aws_cloudwatch_metric_alarm.throttles
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.throttles
}

moved {
  from = aws_cloudwatch_metric_alarm.duration
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.duration
}

moved {
  from = aws_cloudwatch_metric_alarm.concurrency
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.concurrency
}

moved {
  from = aws_cloudwatch_metric_alarm.environments
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.environments
}

moved {
  from = aws_cloudwatch_log_metric_filter.instances
  to   = module.fibonacci.aws_cloudwatch_log_metric_filter.instances
}

moved {
  from = aws_cloudwatch_metric_alarm.instances
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.instances
}

moved {
  from = aws_cloudwatch_metric_alarm.schedules
  to   = module.fibonacci.aws_cloudwatch_metric_alarm.schedules
}

moved {
  from = aws_cloudwatch_dashboard.main
  to   = module.fibonacci.aws_cloudwatch_dashboard.main
}

moved {
  from = aws_security_group.lambda_managed_instances
  to   = module.fibonacci.aws_security_group.lambda_managed_instances
}

moved {
  from = aws_security_group.logs_endpoint
  to   = module.fibonacci.aws_security_group.logs_endpoint
}

moved {
  from = aws_vpc_endpoint.logs
  to   = module.fibonacci.aws_vpc_endpoint.logs
}

moved {
  from = aws_scheduler_schedule_group.scaling
  to   = module.fibonacci.aws_scheduler_schedule_group.scaling
}

moved {
  from = aws_scheduler_schedule.scaling
  to   = module.fibonacci.aws_scheduler_schedule.scaling
}

moved {
  from = aws_iam_role.scheduler
  to   = module.fibonacci.aws_iam_role.scheduler
}

moved {
  from = aws_iam_role_policy.scheduler
  to   = module.fibonacci.aws_iam_role_policy.scheduler
}
