#!/usr/bin/env python3
"""Check what `terraform test` cannot: every resource of a plan. Needs `terraform init`, and the AWS CLI of PyPI.

    tests/plans.py      (in infra/, with examples/takeover_override.tf in module/)

- An update of an earlier release, which had no module, creates, deletes and replaces nothing.
- A take-over of the Python system changes in place what exists, and leaves all that would replace it.
- deployer-policy.json allows what Terraform does with each resource, and nothing else.
- The root forwards every variable and output of the module.
"""
import fnmatch, json, re, subprocess, sys

import awscli.clidriver  # brings botocore along
import botocore.session

ACCOUNT = "us-east-1:123456789012"
TAGS = "ListTagsForResource TagResource UntagResource"

# For each type of resource: the actions by which AWS's provider creates, reads, updates and deletes it, and what they act on.
NEEDS = {
    "aws_lambda_function": ("lambda", "CreateFunction GetFunction GetFunctionConfiguration GetFunctionCodeSigningConfig UpdateFunctionCode "
        "UpdateFunctionConfiguration DeleteFunction PublishVersion ListVersionsByFunction ListTags TagResource UntagResource",
        "arn:aws:lambda:{account}:function:{function_name}"),
    "aws_lambda_function_scaling_config": ("lambda", "PutFunctionScalingConfig GetFunctionScalingConfig", "arn:aws:lambda:{account}:function:{function_name}:{qualifier}"),
    "aws_lambda_function_url": ("lambda", "CreateFunctionUrlConfig GetFunctionUrlConfig UpdateFunctionUrlConfig DeleteFunctionUrlConfig", "arn:aws:lambda:{account}:function:{function_name}"),
    "aws_lambda_capacity_provider": ("lambda", "CreateCapacityProvider GetCapacityProvider UpdateCapacityProvider DeleteCapacityProvider PassCapacityProvider ListTags TagResource UntagResource",
        "arn:aws:lambda:{account}:capacity-provider:{name}"),
    "aws_iam_role": ("iam", "CreateRole GetRole UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy PutRolePermissionsBoundary DeleteRolePermissionsBoundary DeleteRole TagRole UntagRole "
        "ListRolePolicies ListAttachedRolePolicies ListInstanceProfilesForRole PassRole", "arn:aws:iam::123456789012:role{path}{name}"),
    "aws_iam_role_policy": ("iam", "PutRolePolicy GetRolePolicy DeleteRolePolicy", "arn:aws:iam::123456789012:role/fibonacci-generator-us-east-1-role"),
    "aws_iam_role_policy_attachment": ("iam", "AttachRolePolicy DetachRolePolicy", "arn:aws:iam::123456789012:role/fibonacci-generator-cp-operator-0"),
    "aws_security_group": ("ec2", "CreateSecurityGroup DescribeSecurityGroups DescribeNetworkInterfaces DeleteSecurityGroup AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress "
        "AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress CreateTags DeleteTags", "arn:aws:ec2:{account}:security-group/sg-0"),
    "aws_vpc_endpoint": ("ec2", "CreateVpcEndpoint DescribeVpcEndpoints DescribePrefixLists ModifyVpcEndpoint DeleteVpcEndpoints CreateTags DeleteTags", "arn:aws:ec2:{account}:vpc-endpoint/vpce-0"),
    "aws_cloudwatch_log_group": ("logs", "CreateLogGroup DescribeLogGroups DeleteLogGroup PutRetentionPolicy DeleteRetentionPolicy PutLogGroupDeletionProtection AssociateKmsKey DisassociateKmsKey " + TAGS,
        "arn:aws:logs:{account}:log-group:{name}"),
    "aws_cloudwatch_log_metric_filter": ("logs", "PutMetricFilter DescribeMetricFilters DeleteMetricFilter", "arn:aws:logs:{account}:log-group:{log_group_name}:*"),
    "aws_cloudwatch_metric_alarm": ("cloudwatch", "PutMetricAlarm DescribeAlarms DeleteAlarms " + TAGS, "arn:aws:cloudwatch:{account}:alarm:{alarm_name}"),
    "aws_cloudwatch_dashboard": ("cloudwatch", "PutDashboard GetDashboard DeleteDashboards", "arn:aws:cloudwatch::123456789012:dashboard/{dashboard_name}"),
    "aws_scheduler_schedule_group": ("scheduler", "CreateScheduleGroup GetScheduleGroup DeleteScheduleGroup " + TAGS, "arn:aws:scheduler:{account}:schedule-group/{name}"),
    "aws_scheduler_schedule": ("scheduler", "CreateSchedule GetSchedule UpdateSchedule DeleteSchedule", "arn:aws:scheduler:{account}:schedule/{group_name}/{name}"),
    "terraform_data": ("", "", ""),
}

# Not of one resource's service: the state, the lookups of the network, the endpoint's private DNS, and the role that Lambda creates.
BESIDES = {
    "s3:ListBucket": "arn:aws:s3:::your-state-bucket",
    "s3:GetObject": "arn:aws:s3:::your-state-bucket/fibonacci-lambda/terraform.tfstate",
    "s3:PutObject": "arn:aws:s3:::your-state-bucket/fibonacci-lambda/terraform.tfstate.tflock",
    "s3:DeleteObject": "arn:aws:s3:::your-state-bucket/fibonacci-lambda/terraform.tfstate.tflock",
    "ec2:DescribeSubnets": "*",
    "ec2:DescribeRouteTables": "*",
    "route53:AssociateVPCWithHostedZone": "*",
    "iam:CreateServiceLinkedRole": "arn:aws:iam::123456789012:role/aws-service-role/lambda.amazonaws.com/AWSServiceRoleForLambda",
}
NO_OPERATIONS = {"lambda:PassCapacityProvider", "iam:PassRole", "s3:ListBucket"}

# What IMPORT.md lists for the take-over. The tags change as well, which mocks do not show.
TAKEOVER = {
    "aws_lambda_capacity_provider.main[0]": "no-op",
    "aws_iam_role.capacity_provider_operator[0]": "no-op",
    "aws_iam_role_policy_attachment.operator_policy[0]": "no-op",
    "aws_security_group.lambda_managed_instances[0]": "update",
    "aws_iam_role.lambda_role[0]": "no-op",
    "aws_lambda_function.fibonacci": "update",
}
# Arguments whose change makes AWS's provider replace the resource. Mocks do not.
FORCE_REPLACEMENT = {
    "aws_lambda_capacity_provider": "name vpc_config permissions_config instance_requirements kms_key_arn",
    "aws_iam_role": "name name_prefix path description",
    "aws_security_group": "name_prefix description vpc_id",
    "aws_lambda_function": "function_name",
}


def plans():
    """The plan of each run, by name."""
    files = [f"-filter=tests/{name}.tftest.hcl" for name in ("update", "takeover", "everything")]
    said = subprocess.run(["terraform", "test", "-json", "-verbose", *files], capture_output=True, text=True, timeout=300).stdout
    messages = [json.loads(line) for line in said.splitlines()]
    errors = [message["diagnostic"] for message in messages if message.get("diagnostic", {}).get("severity") == "error"]
    if errors or not messages:
        sys.exit(f"plans: terraform test failed: {errors}")
    return {message["@testrun"]: message["test_plan"]["resource_changes"] for message in messages if message["type"] == "test_plan"}


def changes(plan):
    return {change["address"].removeprefix("module.fibonacci."): change for change in plan}


def update(plan):
    for address, change in changes(plan).items():
        # The alarms that earlier releases did not have.
        if change["change"]["actions"] not in (["no-op"], ["update"]) and "utilization" not in address:
            yield f"an update of an earlier release would {change['change']['actions']} {address}"


def takeover(plan):
    found, document = changes(plan), open("IMPORT.md").read()
    for address, action in TAKEOVER.items():
        if f"`{address}`" not in document:
            yield f"IMPORT.md does not list {address}"
        change = found[address]["change"]
        if change["actions"] != [action]:
            yield f"the take-over would {change['actions']} {address}, not {action}"
        for name in FORCE_REPLACEMENT.get(found[address]["type"], "").split():
            if change["after"].get(name, "?") != change["before"].get(name, "?"):
                yield f"the take-over would replace {address}, because {name} changes"
    for address, change in found.items():
        if address not in TAKEOVER and change["change"]["actions"] != (["delete"] if "lambda_basic_execution" in address else ["create"]):
            yield f"the take-over would {change['change']['actions']} {address}, which the Python system does not have"


def needed(plan):
    """(action, resource) for everything that Terraform does with the resources of a plan."""
    yield from BESIDES.items()
    for change in plan:
        service, actions, resource = NEEDS[change["type"]]
        values = {name: value for name, value in change["change"]["after"].items() if isinstance(value, str)}
        values.setdefault("name", values.get("name_prefix", "") + "0")
        for action in actions.split():
            yield f"{service}:{action}", resource.format(account=ACCOUNT, **values)


def policy(plan):
    statements = json.load(open("deployer-policy.json"))["Statement"]
    as_list = lambda value: value if isinstance(value, list) else [value]
    allowed = [(action, resource) for statement in statements for action in as_list(statement["Action"]) for resource in as_list(statement["Resource"])]
    wanted = list(needed(plan))
    for action, resource in wanted:
        if not any(action == name and fnmatch.fnmatchcase(resource, pattern) for name, pattern in allowed):
            yield f"deployer-policy.json does not allow {action} on {resource}"
    for action, pattern in allowed:
        if not any(action == name for name, _ in wanted):
            yield f"deployer-policy.json allows {action}, which nothing needs"
    services = botocore.session.get_session()
    for action in {action for action, _ in allowed} - NO_OPERATIONS:
        service, operation = action.split(":")
        if operation not in services.get_service_model(service).operation_names:
            yield f"deployer-policy.json has {action}, which is no action"


def forwarded():
    names = lambda kind, path: set(re.findall(rf'^{kind} "(\w+)"', open(path).read(), re.MULTILINE))
    passed = set(re.findall(r"^  (\w+) += var\.\1$", open("main.tf").read().split("\nmodule ")[1], re.MULTILINE))
    returned = set(re.findall(r'^output "(\w+)" \{\n.*\n  value += module\.fibonacci\.\1$', open("outputs.tf").read(), re.MULTILINE))
    variables, outputs = names("variable", "module/variables.tf"), names("output", "module/outputs.tf")
    for name in (variables ^ passed) | (variables - names("variable", "variables.tf")):
        yield f"main.tf does not pass the variable {name} to the module"
    for name in outputs ^ returned:
        yield f"outputs.tf does not return the module's output {name}"


def main():
    found = plans()
    wrong = [*update(found["updates_an_earlier_release"]), *takeover(found["takes_over_the_python_system"]), *policy(found["creates_everything"]), *forwarded()]
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    print(f"plans: {sum(map(len, found.values()))} resources in {len(found)} plans, {len(wrong)} complaints")
    sys.exit(len(wrong) > 0)


main()
