# Where the instances run, and what they reach. Where a run says nothing else, the main route table has NAT.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  vpc_id   = "vpc-0123456789abcdef0"
  filename = "versions.tf"
}

run "chooses_one_private_subnet_per_zone" {
  command = plan

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000001", "subnet-0c000001"])
    error_message = "Of the two in us-east-1a the one with the lower id, and not the public one in us-east-1b."
  }
}

run "prefers_a_subnet_with_a_default_route" {
  command = plan

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main", "rtb-database"] }
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-database"]
    values = {
      associations = [{ main = false, subnet_id = "subnet-0a000001" }, { main = false, subnet_id = "subnet-0b000000" }]
      routes       = []
    }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000001", "subnet-0c000001"])
    error_message = "The isolated subnets have lower ids, but the instances there reach nothing."
  }
}

run "warns_of_subnets_with_a_default_route_of_ipv6_only" {
  command = plan

  override_data {
    target = data.aws_route_table.vpc["rtb-main"]
    values = {
      associations = [{ main = true, subnet_id = "" }]
      routes       = [{ ipv6_cidr_block = "::/0", egress_only_gateway_id = "eigw-01234567" }]
    }
  }

  expect_failures = [check.instances_reach_cloudwatch_logs]
}

run "leaves_out_a_zone_without_a_default_route_if_two_others_have_one" {
  command = plan

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main", "rtb-database"] }
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-database"]
    values = {
      associations = [{ main = false, subnet_id = "subnet-0c000001" }]
      routes       = []
    }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000000"])
    error_message = "In the third zone the instances would reach nothing."
  }
}

run "uses_isolated_subnets_if_the_logs_have_an_endpoint" {
  command = plan

  variables {
    create_logs_endpoint = true
  }

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main", "rtb-database"] }
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-database"]
    values = {
      associations = [{ main = false, subnet_id = "subnet-0a000001" }, { main = false, subnet_id = "subnet-0c000001" }]
      routes       = []
    }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000000", "subnet-0c000001"])
    error_message = "A zone uses the subnet with a default route if there is one, otherwise the isolated one."
  }
}

run "uses_isolated_subnets_if_there_are_too_few_others_and_warns" {
  command = plan

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main", "rtb-private"] }
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-main"]
    values = {
      associations = [{ main = true, subnet_id = "" }]
      routes       = []
    }
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-private"]
    values = {
      associations = [{ main = false, subnet_id = "subnet-0b000001" }]
      routes       = [{ cidr_block = "0.0.0.0/0", nat_gateway_id = "nat-01234567", gateway_id = "" }]
    }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000001", "subnet-0c000001"])
    error_message = "One zone with a default route is not enough."
  }

  expect_failures = [check.instances_reach_cloudwatch_logs]
}

run "never_chooses_subnets_outside_of_availability_zones" {
  command = plan

  override_data {
    target = data.aws_subnet.candidate["subnet-0a000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1a", outpost_arn = "arn:aws:outposts:us-east-1:123456789012:outpost/op-01234567" }
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0b000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1-bos-1a" }
  }

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main"] }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000002", "subnet-0b000000", "subnet-0c000001"])
    error_message = "Lambda launches no instances on the Outpost or in the Local Zone."
  }
}

run "rejects_a_subnet_in_a_wavelength_zone" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001", "subnet-0b000001", "subnet-0c000001"]
  }

  override_data {
    target = data.aws_subnet.candidate["subnet-0c000001"]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "us-east-1-wl1-bos-wlz-1" }
  }

  expect_failures = [aws_lambda_capacity_provider.main]
}

run "uses_the_given_subnets" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001", "subnet-0a000002", "subnet-0c000001"]
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0a000002", "subnet-0c000001"])
    error_message = "Given subnets are used as they are, even two in one zone."
  }
}

run "warns_of_two_subnets_in_one_zone" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001", "subnet-0a000002"]
  }

  expect_failures = [check.instances_are_in_two_zones]
}

run "warns_of_a_single_subnet" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001"]
  }

  expect_failures = [check.instances_are_in_two_zones]
}

run "warns_of_a_vpc_with_private_subnets_in_one_zone_only" {
  command = plan

  override_data {
    target = data.aws_subnets.vpc
    values = { ids = ["subnet-0a000001", "subnet-0a000002", "subnet-0b000000"] }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001"])
    error_message = "Lambda accepts one subnet."
  }

  expect_failures = [check.instances_are_in_two_zones]
}

run "leaves_out_a_zone_that_lambda_refuses" {
  command = plan

  variables {
    excluded_zone_ids = ["use1-az2"]
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0c000001"])
    error_message = "The zone is left out by its id, and the other subnets are chosen as before."
  }
}

run "rejects_a_vpc_with_private_subnets_in_excluded_zones_only" {
  command = plan

  variables {
    excluded_zone_ids = ["use1-az1", "use1-az2", "use1-az3"]
  }

  expect_failures = [aws_lambda_capacity_provider.main]
}

run "rejects_a_vpc_without_subnets" {
  command = plan

  override_data {
    target = data.aws_subnets.vpc
    values = { ids = [] }
  }

  expect_failures = [aws_lambda_capacity_provider.main]
}

run "rejects_subnets_of_another_vpc" {
  command = plan

  variables {
    vpc_id     = "vpc-00000000"
    subnet_ids = ["subnet-0a000001", "subnet-0b000001"]
  }

  expect_failures = [aws_lambda_capacity_provider.main]
}

run "knows_private_subnets_by_the_main_route_table_alone" {
  command = plan

  override_data {
    target = data.aws_route_tables.vpc
    values = { ids = ["rtb-main"] }
  }

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids == toset(["subnet-0a000001", "subnet-0b000000", "subnet-0c000001"])
    error_message = "Without a table of its own, subnet-0b000000 is as private as the others."
  }
}

run "warns_of_a_public_subnet" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a000001", "subnet-0b000000"]
  }

  expect_failures = [check.subnets_are_private]
}

run "warns_of_subnets_without_nat_or_endpoint" {
  command = plan

  override_data {
    target = data.aws_route_table.vpc["rtb-main"]
    values = {
      associations = [{ main = true, subnet_id = "" }]
      routes       = []
    }
  }

  expect_failures = [check.instances_reach_cloudwatch_logs]
}

run "accepts_an_endpoint_instead_of_nat" {
  command = plan

  variables {
    create_logs_endpoint = true
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-main"]
    values = {
      associations = [{ main = true, subnet_id = "" }]
      routes       = []
    }
  }

  assert {
    condition     = aws_vpc_endpoint.logs[0].service_name == "com.amazonaws.us-east-1.logs" && aws_vpc_endpoint.logs[0].private_dns_enabled
    error_message = "The runtime looks up CloudWatch Logs by its usual name."
  }
}

run "accepts_an_endpoint_that_exists_instead_of_nat" {
  command = plan

  variables {
    logs_endpoint_exists = true
  }

  override_data {
    target = data.aws_route_table.vpc["rtb-main"]
    values = {
      associations = [{ main = true, subnet_id = "" }]
      routes       = []
    }
  }

  assert {
    condition     = length(aws_vpc_endpoint.logs) == 0
    error_message = "There is nothing to warn of, and no second endpoint."
  }
}

run "lets_the_endpoint_carry_log_lines_to_this_account_only" {
  command = plan

  variables {
    create_logs_endpoint = true
  }

  assert {
    condition = jsondecode(aws_vpc_endpoint.logs[0].policy).Statement == [{
      Effect    = "Allow"
      Principal = "*"
      Action    = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "arn:aws:logs:us-east-1:123456789012:log-group:*"
    }]
    error_message = "The endpoint must not carry data to log groups of other accounts."
  }
}

run "lets_nothing_in_and_only_https_out" {
  command = plan

  assert {
    condition     = length(aws_security_group.lambda_managed_instances[0].ingress) == 0
    error_message = "Invocations do not come over the network."
  }

  assert {
    condition     = [for rule in aws_security_group.lambda_managed_instances[0].egress : [rule.protocol, rule.from_port, rule.to_port]] == [["tcp", 443, 443]]
    error_message = "AWS's services are reached on port 443 and on no other."
  }
}

run "lets_the_instances_ask_the_dns_servers_of_the_vpc" {
  command = plan

  variables {
    dns_server_cidrs = ["10.0.0.2/32", "10.0.1.2/32", "fd00::2/128"]
  }

  assert {
    condition = toset([for rule in aws_security_group.lambda_managed_instances[0].egress : jsonencode([rule.protocol, rule.from_port, rule.to_port, rule.cidr_blocks, rule.ipv6_cidr_blocks]) if rule.from_port == 53]) == toset([
      for protocol in ["udp", "tcp"] : jsonencode([protocol, 53, 53, ["10.0.0.2/32", "10.0.1.2/32"], ["fd00::2/128"]])
    ])
    error_message = "DNS uses UDP, and TCP for long answers."
  }

  assert {
    condition     = length(aws_security_group.lambda_managed_instances[0].egress) == 3
    error_message = "HTTPS stays open."
  }
}

run "puts_the_instances_into_the_security_group" {
  command = apply

  assert {
    condition     = aws_lambda_capacity_provider.main[0].vpc_config[0].security_group_ids == toset([aws_security_group.lambda_managed_instances[0].id])
    error_message = "The group must be the capacity provider's only one."
  }
}

run "admits_only_the_instances_to_the_endpoint" {
  command = apply

  variables {
    create_logs_endpoint = true
  }

  assert {
    condition     = length(aws_security_group.logs_endpoint[0].ingress) == 1 && alltrue([for rule in aws_security_group.logs_endpoint[0].ingress : rule.from_port == 443 && rule.to_port == 443 && rule.security_groups == toset([aws_security_group.lambda_managed_instances[0].id]) && rule.cidr_blocks == null])
    error_message = "Port 443 from the instances' security group, and nothing else."
  }

  assert {
    condition     = aws_vpc_endpoint.logs[0].security_group_ids == toset([aws_security_group.logs_endpoint[0].id])
    error_message = "The endpoint must be in that group."
  }
}
