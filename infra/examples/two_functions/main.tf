# Two functions on one capacity provider. They share its instances without isolation, and its ceiling.
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

locals {
  max_vcpu = 32
}

module "fibonacci" {
  source = "../../module"

  vpc_id                     = "vpc-0123456789abcdef0"
  filename                   = "../../../target/lambda/fibonacci-generator/bootstrap.zip"
  capacity_provider_max_vcpu = local.max_vcpu
  max_execution_environments = 12
}

module "more" {
  source   = "../../module"
  for_each = toset(["fibonacci-canary"])

  function_name              = each.key
  filename                   = "../../../target/lambda/fibonacci-generator/bootstrap.zip"
  capacity_provider_arn      = module.fibonacci.capacity_provider_arn
  capacity_provider_max_vcpu = local.max_vcpu
  max_execution_environments = 6
}
