# An alias that sends a part of its invocations to another version. Terraform publishes no numbered versions, so publish each by hand
# while its code is deployed (of code that has a number already, this makes no new one):
#   aws lambda publish-version --function-name fibonacci-generator
# Each runs three execution environments or more besides those of $LATEST.PUBLISHED, and needs room for them under the ceiling.
locals {
  alias_version      = "1"
  alias_next_version = "2"
  alias_next_share   = 0.1 # of the invocations
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = module.fibonacci.lambda_function_name
  function_version = local.alias_version

  routing_config {
    additional_version_weights = { (local.alias_next_version) = local.alias_next_share }
  }

  lifecycle {
    replace_triggered_by = [terraform_data.alias]
  }
}

# A function that is replaced loses what refers to it here.
resource "terraform_data" "alias" {
  input = module.fibonacci.lambda_function_arn
}

output "alias_arn" {
  description = "ARN of the alias, by which to invoke it."
  value       = aws_lambda_alias.live.arn
}
