# Sets environment variables. They replace the one that runtime_api_pipelining = false sets.
resource "aws_lambda_function" "fibonacci" {
  environment {
    variables = { TZ = "Europe/Berlin" }
  }
}
