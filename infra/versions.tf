terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # The first release with aws_lambda_function_scaling_config.
      version = ">= 6.54.0, < 7.0.0"
    }
  }
}
