output "lambda_function_arn" {
  description = "ARN of the function; without a qualifier it means $LATEST.PUBLISHED."
  value       = aws_lambda_function.fibonacci.arn
}

output "lambda_function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.fibonacci.function_name
}

output "capacity_provider_arn" {
  description = "ARN of the capacity provider."
  value       = local.capacity_provider_arn
}

output "capacity_provider_name" {
  description = "Name of the capacity provider, the dimension of its metrics."
  value       = local.capacity_provider_name
}

output "operator_role_arn" {
  description = "ARN of the role with which Lambda manages the instances; null for an existing capacity provider."
  value       = one(aws_iam_role.capacity_provider_operator[*].arn)
}

output "security_group_id" {
  description = "Security group of the instances; null for an existing capacity provider."
  value       = one(aws_security_group.lambda_managed_instances[*].id)
}

output "function_url" {
  description = "Function URL; null unless create_function_url."
  value       = one(aws_lambda_function_url.main[*].function_url)
}

output "log_group_name" {
  description = "Log group of the function."
  value       = aws_cloudwatch_log_group.function.name
}

output "dashboard_url" {
  description = "The dashboard in the CloudWatch console; null unless create_monitoring."
  value       = var.create_monitoring ? "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.main[0].dashboard_name}" : null
}
