# A VPC with a private subnet in two zones each, and NAT. The data sources are the module's, or the root's in releases without a module.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
}

mock_data "aws_region" {
  defaults = { region = "us-east-1" }
}

mock_data "aws_subnets" {
  defaults = { ids = ["subnet-0a000001", "subnet-0b000001"] }
}

mock_data "aws_subnet" {
  defaults = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1a", availability_zone_id = "use1-az1" }
}

override_data {
  target = module.fibonacci.data.aws_subnet.candidate["subnet-0b000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1b", availability_zone_id = "use1-az2" }
}

override_data {
  target = data.aws_subnet.candidate["subnet-0b000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1b", availability_zone_id = "use1-az2" }
}

mock_data "aws_route_tables" {
  defaults = { ids = ["rtb-main"] }
}

mock_data "aws_route_table" {
  defaults = {
    associations = [{ main = true, subnet_id = "" }]
    routes       = [{ cidr_block = "0.0.0.0/0", nat_gateway_id = "nat-01234567", gateway_id = "" }]
  }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/fibonacci-generator" }
}

mock_resource "aws_lambda_capacity_provider" {
  defaults = { arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:fibonacci-generator-capacity-provider" }
}
