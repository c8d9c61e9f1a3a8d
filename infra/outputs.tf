output "lambda_function_arn" {
  description = "ARN of the function; without a qualifier it means $LATEST.PUBLISHED."
  value       = module.fibonacci.lambda_function_arn
}

output "invoke_arn" {
  description = "ARN by which API Gateway invokes $LATEST.PUBLISHED."
  value       = module.fibonacci.invoke_arn
}

output "lambda_function_name" {
  description = "Name of the function."
  value       = module.fibonacci.lambda_function_name
}

output "capacity_provider_arn" {
  description = "ARN of the capacity provider."
  value       = module.fibonacci.capacity_provider_arn
}

output "capacity_provider_name" {
  description = "Name of the capacity provider, the dimension of its metrics."
  value       = module.fibonacci.capacity_provider_name
}

output "operator_role_arn" {
  description = "ARN of the role with which Lambda manages the instances; null with capacity_provider_arn."
  value       = module.fibonacci.operator_role_arn
}

output "execution_role_name" {
  description = "Name of the role with which the function runs, to attach more policies to."
  value       = module.fibonacci.execution_role_name
}

output "security_group_id" {
  description = "Security group of the instances; null with capacity_provider_arn."
  value       = module.fibonacci.security_group_id
}

output "function_url" {
  description = "Function URL; null unless create_function_url."
  value       = module.fibonacci.function_url
}

output "log_group_name" {
  description = "Log group of the function."
  value       = module.fibonacci.log_group_name
}

output "dashboard_url" {
  description = "The dashboard in the CloudWatch console; null unless create_monitoring, and in a partition whose console is not known."
  value       = module.fibonacci.dashboard_url
}
