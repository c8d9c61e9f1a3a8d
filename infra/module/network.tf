locals {
  creates_capacity_provider = var.capacity_provider_arn == null
}

data "aws_subnets" "vpc" {
  count = local.creates_capacity_provider && length(var.subnet_ids) == 0 ? 1 : 0

  filter {
    name   = "vpc-id"
    values = [var.vpc_id]
  }

  filter {
    name   = "map-public-ip-on-launch"
    values = ["false"]
  }
}

data "aws_subnet" "candidate" {
  for_each = (!local.creates_capacity_provider ? toset([]) :
  length(var.subnet_ids) > 0 ? var.subnet_ids : toset(data.aws_subnets.vpc[0].ids))

  id = each.value
}

data "aws_route_tables" "vpc" {
  count  = local.creates_capacity_provider ? 1 : 0
  vpc_id = var.vpc_id
}

data "aws_route_table" "vpc" {
  for_each       = toset(local.creates_capacity_provider ? data.aws_route_tables.vpc[0].ids : [])
  route_table_id = each.value
}

locals {
  main_routes = flatten([for table in data.aws_route_table.vpc : table.routes if anytrue(table.associations[*].main)])
  routes_of_subnet = merge([
    for table in data.aws_route_table.vpc : { for association in table.associations : association.subnet_id => table.routes if try(startswith(association.subnet_id, "subnet-"), false) }
  ]...)

  # By subnet. A subnet without a route table of its own uses the VPC's main one.
  egress = { for id, routes in merge({ main = local.main_routes }, local.routes_of_subnet) : id => {
    is_public = anytrue([for route in routes : try(startswith(route.gateway_id, "igw-"), false)])
    # CloudWatch Logs cannot be reached over a route of IPv6 only.
    has_route = anytrue([for route in routes : try(route.cidr_block == "0.0.0.0/0", false)])
  } }

  # Subnets in Local Zones, in Wavelength Zones and on Outposts.
  foreign_subnet_ids = [for id, subnet in data.aws_subnet.candidate : id if !can(regex("^${local.region}[a-z]$", subnet.availability_zone)) || try(startswith(subnet.outpost_arn, "arn:"), false)]

  private_subnet_ids_by_zone = { for id, subnet in data.aws_subnet.candidate : subnet.availability_zone => id... if !contains(local.foreign_subnet_ids, id) && !contains(var.excluded_zone_ids, subnet.availability_zone_id) && !lookup(local.egress, id, local.egress.main).is_public }
  routed_subnet_ids_by_zone  = { for id in flatten(values(local.private_subnet_ids_by_zone)) : data.aws_subnet.candidate[id].availability_zone => id... if lookup(local.egress, id, local.egress.main).has_route }

  # Instances without egress lose their logs and may never become active, so a zone without a default route is left out if two others have one.
  zones = local.logs_have_endpoint || length(local.routed_subnet_ids_by_zone) < 2 ? keys(local.private_subnet_ids_by_zone) : keys(local.routed_subnet_ids_by_zone)

  # The lowest id, so that the choice stays the same from plan to plan.
  chosen_subnet_ids = [for zone in local.zones : sort(lookup(local.routed_subnet_ids_by_zone, zone, local.private_subnet_ids_by_zone[zone]))[0]]
  subnet_ids        = length(var.subnet_ids) > 0 ? var.subnet_ids : toset(local.chosen_subnet_ids)

  logs_have_endpoint = var.create_logs_endpoint || var.logs_endpoint_exists

  # The subnets that were chosen when the capacity provider was created.
  capacity_provider_subnet_ids = local.creates_capacity_provider ? aws_lambda_capacity_provider.main[0].vpc_config[0].subnet_ids : []
  zones_of_capacity_provider   = distinct([for id in local.capacity_provider_subnet_ids : try(data.aws_subnet.candidate[id].availability_zone, id)])
  public_subnet_ids            = [for id in local.capacity_provider_subnet_ids : id if lookup(local.egress, id, local.egress.main).is_public]
  isolated_subnet_ids          = [for id in local.capacity_provider_subnet_ids : id if !lookup(local.egress, id, local.egress.main).has_route]
}

check "instances_are_in_two_zones" {
  assert {
    condition     = !local.creates_capacity_provider || length(local.zones_of_capacity_provider) >= 2
    error_message = "All subnets of the capacity provider are in one Availability Zone. If it fails, so does the function."
  }
}

check "subnets_are_private" {
  assert {
    condition     = length(local.public_subnet_ids) == 0
    error_message = "These subnets have a route to an internet gateway: ${join(", ", local.public_subnet_ids)}. Instances there reach AWS only with public addresses; use private subnets with NAT or VPC endpoints."
  }
}

check "instances_reach_cloudwatch_logs" {
  assert {
    condition     = local.logs_have_endpoint || length(local.isolated_subnet_ids) == 0
    error_message = "These subnets have no default route of IPv4: ${join(", ", local.isolated_subnet_ids)}. Without an interface endpoint for com.amazonaws.${local.region}.logs the function's log never arrives, and AWS names missing egress as the most common reason why a capacity provider never becomes active. If the VPC has such an endpoint, set logs_endpoint_exists = true; otherwise set create_logs_endpoint = true, or add a NAT gateway."
  }
}

resource "aws_security_group" "lambda_managed_instances" {
  #checkov:skip=CKV2_AWS_5:attached to the capacity provider, a resource that checkov does not know

  count = local.creates_capacity_provider ? 1 : 0

  # Prefix and description are the Python system's. Others would replace the group and the capacity provider.
  name_prefix = "${var.function_name}-managed-instances-"
  description = "Security group for Lambda Managed Instances - allows outbound traffic for Lambda service communication"
  vpc_id      = var.vpc_id

  # Invocations come through Lambda, not over the network.
  ingress = []

  # Inline, because separate rule resources would leave rules that exist already open.
  egress {
    description      = "HTTPS to AWS services"
    protocol         = "tcp"
    from_port        = 443
    to_port          = 443
    cidr_blocks      = ["0.0.0.0/0"] # AWS's addresses change; the VPC's routes limit how far this reaches
    ipv6_cidr_blocks = ["::/0"]
  }

  # Security groups do not filter questions to Amazon's DNS server.
  dynamic "egress" {
    for_each = length(var.dns_server_cidrs) > 0 ? ["udp", "tcp"] : []

    content {
      description      = "DNS"
      protocol         = egress.value
      from_port        = 53
      to_port          = 53
      cidr_blocks      = [for cidr in var.dns_server_cidrs : cidr if !strcontains(cidr, ":")]
      ipv6_cidr_blocks = [for cidr in var.dns_server_cidrs : cidr if strcontains(cidr, ":")]
    }
  }
}

# The subnets of the capacity provider may differ from those that would be chosen today.
data "aws_subnet" "of_capacity_provider" {
  for_each = toset(var.create_logs_endpoint ? local.capacity_provider_subnet_ids : [])
  id       = each.value
}

resource "aws_security_group" "logs_endpoint" {
  count = var.create_logs_endpoint ? 1 : 0

  name_prefix = "${var.function_name}-logs-endpoint-"
  description = "Interface endpoint for CloudWatch Logs"
  vpc_id      = var.vpc_id
  egress      = []

  ingress {
    description     = "HTTPS from the managed instances"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    security_groups = aws_lambda_capacity_provider.main[0].vpc_config[0].security_group_ids
  }
}

resource "aws_vpc_endpoint" "logs" {
  count = var.create_logs_endpoint ? 1 : 0

  vpc_id              = var.vpc_id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${local.region}.logs"
  private_dns_enabled = true
  # An endpoint accepts one subnet per zone.
  subnet_ids         = [for ids in values({ for id, subnet in data.aws_subnet.of_capacity_provider : subnet.availability_zone => id... }) : sort(ids)[0]]
  security_group_ids = aws_security_group.logs_endpoint[*].id

  # Log lines, and only to this account.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = "*"
      Action    = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:*"
    }]
  })
}
