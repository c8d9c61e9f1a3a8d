# Runs with examples/http_api.tf beside the configuration; .ci/infra puts it there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region   = "us-east-1"
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "invokes_the_function_from_an_http_api" {
  override_resource {
    target = aws_apigatewayv2_api.http
    values = { id = "a1b2c3", execution_arn = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3" }
  }

  assert {
    condition     = aws_apigatewayv2_integration.http.integration_uri == output.invoke_arn && aws_apigatewayv2_integration.http.payload_format_version == "2.0"
    error_message = "The integration must invoke the function with events of version 2.0."
  }

  assert {
    condition     = aws_lambda_permission.http.source_arn == "arn:aws:execute-api:us-east-1:123456789012:a1b2c3/*" && aws_lambda_permission.http.qualifier == null
    error_message = "This API and no other may invoke the function."
  }
}
