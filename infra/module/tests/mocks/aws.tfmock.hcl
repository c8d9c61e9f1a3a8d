# A VPC with private subnets in three zones (two of them in us-east-1a), a public one in us-east-1b, and NAT.

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
  defaults = { ids = ["subnet-0a000002", "subnet-0a000001", "subnet-0b000000", "subnet-0b000001", "subnet-0c000001"] }
}

override_data {
  target = data.aws_subnet.candidate
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1a", availability_zone_id = "use1-az1" }
}

override_data {
  target = data.aws_subnet.candidate["subnet-0b000000"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1b", availability_zone_id = "use1-az2" }
}

override_data {
  target = data.aws_subnet.candidate["subnet-0b000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1b", availability_zone_id = "use1-az2" }
}

override_data {
  target = data.aws_subnet.candidate["subnet-0c000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1c", availability_zone_id = "use1-az3" }
}

override_data {
  target = data.aws_subnet.of_capacity_provider
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1a", availability_zone_id = "use1-az1" }
}

override_data {
  target = data.aws_subnet.of_capacity_provider["subnet-0b000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1b", availability_zone_id = "use1-az2" }
}

override_data {
  target = data.aws_subnet.of_capacity_provider["subnet-0c000001"]
  values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1c", availability_zone_id = "use1-az3" }
}

mock_data "aws_route_tables" {
  defaults = { ids = ["rtb-main", "rtb-public"] }
}

override_data {
  target = data.aws_route_table.vpc["rtb-main"]
  values = {
    associations = [{ main = true, subnet_id = "" }]
    routes       = [{ cidr_block = "0.0.0.0/0", nat_gateway_id = "nat-01234567", gateway_id = "" }]
  }
}

override_data {
  target = data.aws_route_table.vpc["rtb-public"]
  values = {
    associations = [{ main = false, subnet_id = "subnet-0b000000" }]
    routes       = [{ cidr_block = "0.0.0.0/0", gateway_id = "igw-01234567" }]
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
