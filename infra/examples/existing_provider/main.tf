# A function on a capacity provider that somebody else looks after, with its network and its ceiling.
terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.54.0, < 7.0.0"
    }
  }
}

provider "aws" {
  region = "us-east-1"
}

module "fibonacci" {
  source = "../../module"

  filename                   = "../../../target/lambda/fibonacci-generator/bootstrap.zip"
  capacity_provider_arn      = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:shared"
  capacity_provider_max_vcpu = 64 # that provider's
  max_execution_environments = 6
}
