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

  # A subnet without a route table of its own uses the VPC's main one.
  routes = { for id in keys(data.aws_subnet.candidate) : id => lookup(local.routes_of_subnet, id, local.main_routes) }

  public_subnet_ids   = [for id, routes in local.routes : id if anytrue([for route in routes : try(startswith(route.gateway_id, "igw-"), false)])]
  isolated_subnet_ids = [for id, routes in local.routes : id if !anytrue([for route in routes : try(route.cidr_block == "0.0.0.0/0", false) || try(route.ipv6_cidr_block == "::/0", false)])]

  eligible_subnet_ids = length(var.subnet_ids) > 0 ? var.subnet_ids : setsubtract(keys(data.aws_subnet.candidate), local.public_subnet_ids)
  subnet_ids_by_zone  = { for id in local.eligible_subnet_ids : data.aws_subnet.candidate[id].availability_zone => id... }

  # The lowest id, so that the choice stays the same from plan to plan.
  one_subnet_id_per_zone = toset([for ids in values(local.subnet_ids_by_zone) : sort(ids)[0]])
  subnet_ids             = length(var.subnet_ids) > 0 ? var.subnet_ids : local.one_subnet_id_per_zone
}

check "subnets_are_private" {
  assert {
    condition     = length(setintersection(local.subnet_ids, local.public_subnet_ids)) == 0
    error_message = "These subnets have a route to an internet gateway: ${join(", ", setintersection(local.subnet_ids, local.public_subnet_ids))}. Instances there reach AWS only with public addresses; private subnets with NAT or VPC endpoints are the usual choice."
  }
}

check "instances_reach_cloudwatch_logs" {
  assert {
    condition     = var.create_logs_endpoint || length(setintersection(local.subnet_ids, local.isolated_subnet_ids)) == 0
    error_message = "These subnets have no default route: ${join(", ", setintersection(local.subnet_ids, local.isolated_subnet_ids))}. Unless the VPC has an interface endpoint for com.amazonaws.${var.region}.logs, the function runs but its log never arrives: set create_logs_endpoint = true, or add a NAT gateway."
  }
}

resource "aws_security_group" "lambda_managed_instances" {
  #checkov:skip=CKV2_AWS_5:attached to the capacity provider, a resource that checkov does not know

  count = local.creates_capacity_provider ? 1 : 0

  # Prefix and description are those of the Python system: others would replace the group, and with it the capacity provider.
  name_prefix = "${var.function_name}-managed-instances-"
  description = "Security group for Lambda Managed Instances - allows outbound traffic for Lambda service communication"
  vpc_id      = var.vpc_id

  # Invocations come through Lambda, not over the network.
  ingress = []

  # Inline, so that it takes the place of rules that are there: separate rule resources would leave those open.
  egress {
    description      = "HTTPS to AWS services"
    protocol         = "tcp"
    from_port        = 443
    to_port          = 443
    cidr_blocks      = ["0.0.0.0/0"] # AWS's addresses change; the VPC's routes say how far this reaches
    ipv6_cidr_blocks = ["::/0"]
  }
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
    security_groups = aws_security_group.lambda_managed_instances[*].id
  }
}

resource "aws_vpc_endpoint" "logs" {
  count = var.create_logs_endpoint ? 1 : 0

  vpc_id              = var.vpc_id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.logs"
  private_dns_enabled = true
  subnet_ids          = local.one_subnet_id_per_zone # an endpoint takes one per zone
  security_group_ids  = aws_security_group.logs_endpoint[*].id
}
