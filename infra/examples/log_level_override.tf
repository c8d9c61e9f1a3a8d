# Logs more: what the function says at DEBUG, and Lambda's own lines about each invocation.
resource "aws_lambda_function" "fibonacci" {
  logging_config {
    log_format            = "JSON"
    log_group             = aws_cloudwatch_log_group.function.name
    application_log_level = "DEBUG"
    system_log_level      = "INFO"
  }
}
