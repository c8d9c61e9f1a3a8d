output "lambda_function_arn" {
  description = "ARN of the function; without a qualifier it means $LATEST.PUBLISHED."
  value       = aws_lambda_function.fibonacci.arn
}

output "invoke_arn" {
  description = "ARN by which API Gateway invokes $LATEST.PUBLISHED."
  value       = aws_lambda_function.fibonacci.invoke_arn
}

output "lambda_function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.fibonacci.function_name
}

output "capacity_provider_arn" {
  description = "ARN of the capacity provider."
  # Of a result of format, Terraform knows before the first apply that it is not null: it can be another function's capacity_provider_arn.
  value = format("%s", local.capacity_provider_arn)
}

output "capacity_provider_name" {
  description = "Name of the capacity provider, the dimension of its metrics."
  value       = local.capacity_provider_name
}

output "operator_role_arn" {
  description = "ARN of the role with which Lambda manages the instances; null with capacity_provider_arn."
  value       = one(aws_iam_role.capacity_provider_operator[*].arn)
}

output "execution_role_name" {
  description = "Name of the role with which the function runs, to attach more policies to."
  value       = local.creates_execution_role ? one(aws_iam_role.lambda_role[*].name) : basename(var.execution_role_arn)
}

output "security_group_id" {
  description = "Security group of the instances; null with capacity_provider_arn."
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

locals {
  console_domains = {
    aws        = "console.aws.amazon.com"
    aws-cn     = "console.amazonaws.cn"
    aws-eusc   = "console.amazonaws-eusc.eu"
    aws-us-gov = "console.amazonaws-us-gov.com"
  }
  console_domain = lookup(local.console_domains, local.partition, null)
}

output "dashboard_url" {
  description = "The dashboard in the CloudWatch console; null unless create_monitoring, and in a partition whose console is not known."
  value       = !var.create_monitoring || local.console_domain == null ? null : "https://${local.region}.${local.console_domain}/cloudwatch/home?region=${local.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.main[0].dashboard_name}"
}
