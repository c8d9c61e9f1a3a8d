# An API Gateway HTTP API for callers with IAM credentials (execute-api:Invoke): GET /?n=10, or POST / with {"n": 10}.
resource "aws_apigatewayv2_api" "http" {
  name          = module.fibonacci.lambda_function_name
  protocol_type = "HTTP"
}

resource "aws_apigatewayv2_integration" "http" {
  api_id                 = aws_apigatewayv2_api.http.id
  integration_type       = "AWS_PROXY"
  integration_uri        = module.fibonacci.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "http" {
  api_id             = aws_apigatewayv2_api.http.id
  route_key          = "$default"
  authorization_type = "AWS_IAM"
  target             = "integrations/${aws_apigatewayv2_integration.http.id}"
}

resource "aws_apigatewayv2_stage" "http" {
  api_id      = aws_apigatewayv2_api.http.id
  name        = "$default"
  auto_deploy = true
}

resource "aws_lambda_permission" "http" {
  action        = "lambda:InvokeFunction"
  function_name = module.fibonacci.lambda_function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.http.execution_arn}/*"

  lifecycle {
    replace_triggered_by = [terraform_data.http_api]
  }
}

output "http_api_url" {
  description = "URL of the HTTP API."
  value       = aws_apigatewayv2_api.http.api_endpoint
}

# A function that is replaced loses what refers to it here.
resource "terraform_data" "http_api" {
  input = module.fibonacci.lambda_function_arn
}
