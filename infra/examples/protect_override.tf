# Plans that would delete or replace one of these three fail.
resource "aws_lambda_capacity_provider" "main" {
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_lambda_function" "fibonacci" {
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "function" {
  lifecycle {
    prevent_destroy = true
  }
}
