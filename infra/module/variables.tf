variable "vpc_id" {
  description = "Existing VPC in which Lambda launches the instances. Only capacity_provider_arn does without it."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null ? var.capacity_provider_arn != null : can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC, such as vpc-0123456789abcdef0."
  }
}

variable "function_name" {
  description = "Name of the function. All other names begin with it."
  type        = string
  default     = "fibonacci-generator"
  nullable    = false

  validation {
    # IAM allows 38 characters for the prefix of a role's name, and "-cp-operator-" is 13 of them.
    condition     = can(regex("^[a-zA-Z0-9-_]{1,25}$", var.function_name))
    error_message = "function_name must be 1 to 25 letters, digits, hyphens or underscores (the operator role's name has no room for more), not \"${var.function_name}\"."
  }
}

variable "filename" {
  description = "Path of the zip that holds the executable `bootstrap`, relative to the folder of the apply. `cargo lambda build` writes it."
  type        = string
  default     = null

  validation {
    condition     = var.s3_object != null || try(length(var.filename) > 0, false)
    error_message = "filename must be the path of the zip, or s3_object name the zip in S3."
  }
}

variable "s3_object" {
  description = "The zip in S3, instead of filename: bucket, key and perhaps version. The function is updated if key or version changes. The bucket must be in the same Region."
  type        = map(string) # an object would drop a member with a typo in its name
  default     = null

  validation {
    condition     = var.s3_object == null || try(can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.s3_object.bucket)) && length(var.s3_object.key) > 0, false)
    error_message = "s3_object must name a bucket (without s3://) and a key."
  }

  validation {
    condition     = length(setsubtract(keys(coalesce(var.s3_object, {})), ["bucket", "key", "version"])) == 0
    error_message = "s3_object has a bucket, a key and perhaps a version, and nothing else."
  }
}

variable "architecture" {
  description = "Instruction set of the instances and of the zip: x86_64 or arm64. Changing it replaces the capacity provider and the function."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64, not \"${var.architecture}\"."
  }
}

variable "memory_size" {
  description = "Memory of one execution environment, in MB."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.memory_size >= 2048 && var.memory_size <= 32768
    error_message = "memory_size must be from 2048 to 32768 MB, as Managed Instances require, not ${var.memory_size}."
  }

  validation {
    condition     = var.memory_size % (var.memory_gib_per_vcpu * 1024) == 0
    error_message = "memory_size must give whole vCPUs: with memory_gib_per_vcpu = ${var.memory_gib_per_vcpu} it must be a multiple of ${var.memory_gib_per_vcpu * 1024}, not ${var.memory_size}."
  }
}

variable "memory_gib_per_vcpu" {
  description = "GiB of memory per vCPU of an execution environment: 2, 4 or 8 (EC2's C, M and R families)."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([2, 4, 8], var.memory_gib_per_vcpu)
    error_message = "memory_gib_per_vcpu must be 2, 4 or 8, not ${var.memory_gib_per_vcpu}."
  }
}

variable "max_concurrency" {
  description = "Invocations that one execution environment serves at once. Default: 16 per vCPU, as for the Python function that this one replaces (Lambda's own default for Rust is 8)."
  type        = number
  default     = null

  validation {
    condition     = var.max_concurrency == null || try(var.max_concurrency >= 1 && var.max_concurrency <= 1600 && floor(var.max_concurrency) == var.max_concurrency, false)
    error_message = "max_concurrency must be a whole number from 1 to 1600; leave it out for 16 per vCPU."
  }

  validation {
    condition     = var.max_concurrency == null || try(var.max_concurrency <= 64 * local.vcpus, false)
    error_message = "max_concurrency must be at most 64 per vCPU, here ${64 * local.vcpus}: lower it or raise memory_size."
  }
}

variable "timeout" {
  description = "Seconds that an invocation may take."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout must be a whole number of seconds from 1 to 900, not ${var.timeout}. Lambda allows more, but the Terraform provider does not."
  }
}

variable "runtime_api_pipelining" {
  description = "Whether the function sends the next poll together with a reply. false sets RUNTIME_API_PIPELINING=off in its environment."
  type        = bool
  default     = true
  nullable    = false
}

variable "min_execution_environments" {
  description = "Minimum number of execution environments. They always run. Fewer than 3 cannot cover three Availability Zones. 0, with max_execution_environments = 0, switches the function off."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.min_execution_environments >= 0 && var.min_execution_environments <= 15000 && floor(var.min_execution_environments) == var.min_execution_environments
    error_message = "min_execution_environments must be a whole number from 0 to 15000, not ${var.min_execution_environments}."
  }

  validation {
    # The first publish starts three, whatever the minimum is, on three instances, and each instance reserves a vCPU.
    condition     = max(var.min_execution_environments, 3) * local.vcpus + 3 <= var.capacity_provider_max_vcpu
    error_message = "${max(var.min_execution_environments, 3)} execution environments (the first publish starts three, whatever the minimum is) need ${max(var.min_execution_environments, 3) * local.vcpus + 3} vCPUs, of which the instances reserve 3. That is more than capacity_provider_max_vcpu = ${var.capacity_provider_max_vcpu}: raise the ceiling, or lower min_execution_environments or memory_size."
  }
}

variable "max_execution_environments" {
  description = "Maximum number of execution environments. Default: as many as fit under capacity_provider_max_vcpu on instances of 4 vCPUs (or larger, if an environment needs it), each of which reserves one vCPU."
  type        = number
  default     = null

  validation {
    condition     = var.max_execution_environments == null || try(var.max_execution_environments >= 0 && var.max_execution_environments <= 15000 && floor(var.max_execution_environments) == var.max_execution_environments, false)
    error_message = "max_execution_environments must be a whole number from 0 to 15000; leave it out for as many as fit under the vCPU ceiling."
  }

  validation {
    condition     = var.max_execution_environments == null || try(var.max_execution_environments >= var.min_execution_environments, false)
    error_message = "max_execution_environments must not be less than min_execution_environments = ${var.min_execution_environments}."
  }

  validation {
    condition     = var.max_execution_environments == null || try(var.max_execution_environments * local.vcpus + min(var.max_execution_environments, 3) <= var.capacity_provider_max_vcpu, false)
    error_message = "capacity_provider_max_vcpu = ${var.capacity_provider_max_vcpu} holds at most ${floor((var.capacity_provider_max_vcpu - 3) / local.vcpus)} execution environments of ${local.vcpus} vCPUs, because the instances reserve 3: lower max_execution_environments or raise the ceiling."
  }

  validation {
    condition     = var.min_execution_environments > 0 || var.max_execution_environments == 0
    error_message = "Lambda accepts min_execution_environments = 0 only together with max_execution_environments = 0, which switches the function off: set both to 0, or the minimum to 1 or more."
  }
}

variable "scaling_schedules" {
  description = "Changes of the minimum and maximum number of execution environments at set times, by name. Each holds until the next. cron has the six fields of EventBridge Scheduler, such as \"45 7 ? * MON-FRI *\"; time_zone is an IANA name, such as UTC."
  type = map(object({
    cron                       = string
    time_zone                  = optional(string) # required, but without it the validation below says more than Terraform
    min_execution_environments = number
    max_execution_environments = number
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.scaling_schedules) : can(regex("^[0-9a-zA-Z-_.]{1,64}$", name))])
    error_message = "The names of scaling_schedules must be 1 to 64 letters, digits, hyphens, underscores or dots."
  }

  validation {
    condition     = alltrue([for schedule in var.scaling_schedules : can(regex(local.cron_pattern, schedule.cron))])
    error_message = "cron must have six fields (minutes, hours, day of the month, month, day of the week, year), each within its range, with a ? for one of the two days and names in capitals, such as \"45 7 ? * MON-FRI *\"."
  }

  validation {
    # Days that do not begin with a number, such as L, are in every month.
    condition = alltrue([for fields in [for schedule in var.scaling_schedules : split(" ", schedule.cron)] : try(anytrue([
      for month in split(",", fields[3]) : lookup(local.days_of_short_months, trimprefix(month, "0"), 31) >= min([for day in split(",", fields[2]) : tonumber(regex("^[0-9]+", day))]...)
    ]), true)])
    error_message = "cron must name a day that its month has: such a schedule would never be due."
  }

  validation {
    condition     = alltrue([for schedule in var.scaling_schedules : try(can(regex("^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$", schedule.time_zone)), false)])
    error_message = "Each schedule needs a time_zone (not timezone): the IANA name of a time zone, such as Europe/Berlin or UTC."
  }

  validation {
    condition     = alltrue(flatten([for schedule in var.scaling_schedules : [for bound in [schedule.min_execution_environments, schedule.max_execution_environments] : try(bound >= 0 && bound <= 15000 && floor(bound) == bound, false)]]))
    error_message = "The bounds of a schedule must be whole numbers from 0 to 15000."
  }

  # A bound that is null is refused above, and must not fail the conditions below with an error.
  validation {
    condition     = try(alltrue([for schedule in var.scaling_schedules : schedule.max_execution_environments >= schedule.min_execution_environments && (schedule.min_execution_environments > 0 || schedule.max_execution_environments == 0)]), true)
    error_message = "The maximum of a schedule must not be less than its minimum, and a minimum of 0 needs a maximum of 0, which switches the function off."
  }

  validation {
    condition     = try(alltrue([for schedule in var.scaling_schedules : schedule.max_execution_environments * local.vcpus + min(schedule.max_execution_environments, 3) <= var.capacity_provider_max_vcpu]), true)
    error_message = "The maximum of a schedule needs more vCPUs than capacity_provider_max_vcpu = ${var.capacity_provider_max_vcpu}, of which the first three instances reserve one each: lower the maximum or raise the ceiling."
  }

  validation {
    condition     = length(var.scaling_schedules) == 0 || try(anytrue([for schedule in var.scaling_schedules : schedule.min_execution_environments > 0]), true)
    error_message = "At least one schedule must have a minimum above 0: a function that a schedule switched off does not come back by itself."
  }
}

variable "capacity_provider_max_vcpu" {
  description = "Ceiling: vCPUs of all instances, which Lambda aims at and a first burst may exceed. With capacity_provider_arn, set it to the ceiling of that provider."
  type        = number
  default     = 16
  nullable    = false

  validation {
    # Lambda refuses less, although its API reference says 2.
    condition     = var.capacity_provider_max_vcpu >= 12 && var.capacity_provider_max_vcpu <= 15000 && floor(var.capacity_provider_max_vcpu) == var.capacity_provider_max_vcpu
    error_message = "capacity_provider_max_vcpu must be a whole number from 12, the least that Lambda accepts, to 15000, not ${var.capacity_provider_max_vcpu}."
  }
}

variable "scaling_mode" {
  description = "Auto: Lambda chooses the CPU utilization to scale at. Manual: target_cpu_utilization sets it."
  type        = string
  default     = "Auto"
  nullable    = false

  validation {
    condition     = contains(["Auto", "Manual"], var.scaling_mode)
    error_message = "scaling_mode must be Auto or Manual, not \"${var.scaling_mode}\"."
  }
}

variable "target_cpu_utilization" {
  description = "Average CPU utilization of the instances, in percent, that scaling_mode = \"Manual\" aims at. A lower value leaves more room for bursts."
  type        = number
  default     = null

  validation {
    condition     = var.target_cpu_utilization == null || try(var.target_cpu_utilization > 0 && var.target_cpu_utilization <= 100, false)
    error_message = "target_cpu_utilization must be above 0 and at most 100 percent."
  }

  validation {
    condition     = var.scaling_mode != "Auto" || var.target_cpu_utilization == null
    error_message = "Lambda refuses a scaling policy in scaling_mode = \"Auto\": leave target_cpu_utilization out, or set scaling_mode = \"Manual\"."
  }

  validation {
    condition     = var.scaling_mode != "Manual" || var.target_cpu_utilization != null
    error_message = "scaling_mode = \"Manual\" needs a scaling policy: set target_cpu_utilization (30 leaves room for bursts), or scaling_mode = \"Auto\"."
  }
}

variable "allowed_instance_types" {
  description = "Instance types that Lambda may launch, such as [\"c7i.xlarge\"] or [\"c7i.*\"]. Default: any of the architecture. Changing it replaces the capacity provider and the function."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.allowed_instance_types) <= 400 && alltrue([for type in var.allowed_instance_types : can(regex("^[a-zA-Z0-9.*-]{1,30}$", type))])
    error_message = "allowed_instance_types must be at most 400 instance types, such as c7i.xlarge, or patterns, such as c7i.*."
  }

  # A type is a family, a generation and more letters, of which the first is g on Graviton. A wildcard leaves open what follows.
  validation {
    condition = alltrue([for type in var.allowed_instance_types : var.architecture == "x86_64" ?
      !can(regex("^(a1\\.|[a-z]+[0-9]+g)", type)) : startswith(type, "a1.") || !can(regex("^[a-z]+[0-9]+[^0-9g*]", type))
    ])
    error_message = "allowed_instance_types has a type that is not ${var.architecture}. Graviton types, which are arm64, have a g after the generation, such as c7g.xlarge."
  }

  validation {
    condition     = alltrue([for type in var.allowed_instance_types : !can(regex("^(g|gr|p|inf|trn|dl|vt|f|mac)[0-9]", type))])
    error_message = "allowed_instance_types must be for general use, as of the families C, M and R: Lambda launches no instances with GPUs, other accelerators or macOS for this function."
  }

  validation {
    # vCPUs by size, and GiB per vCPU by family. Each instance reserves one of both.
    condition = alltrue([for type, vcpus in {
      for type in var.allowed_instance_types : type => try(
        { nano = 1, micro = 1, small = 1, medium = 1, large = 2 }[regex("[.]([a-z]+)$", type)[0]],
        4 * max(1, tonumber("0${regex("[.]([0-9]*)xlarge$", type)[0]}")),
        1000,
      )
    } : vcpus > local.vcpus && vcpus * try({ c = 2, m = 4, r = 8 }[regex("^([cmr])[0-9]", type)[0]], 1000) > var.memory_size / 1024])
    error_message = "allowed_instance_types has a type that is too small: an execution environment needs ${local.vcpus} vCPUs and ${var.memory_size / 1024} GiB, and each instance reserves one of both."
  }

  validation {
    condition     = length(var.allowed_instance_types) == 0 || length(var.excluded_instance_types) == 0
    error_message = "Lambda accepts only one of allowed_instance_types and excluded_instance_types."
  }
}

variable "excluded_instance_types" {
  description = "Instance types that Lambda must not launch. Default: none. Changing it replaces the capacity provider and the function."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.excluded_instance_types) <= 400 && alltrue([for type in var.excluded_instance_types : can(regex("^[a-zA-Z0-9.*-]{1,30}$", type))])
    error_message = "excluded_instance_types must be at most 400 instance types, such as c7i.48xlarge, or patterns, such as c5.*."
  }

  validation {
    condition     = alltrue([for type in var.excluded_instance_types : can(regex("[^*.]", type))])
    error_message = "excluded_instance_types must leave some types: \"*\" excludes all."
  }
}

variable "subnet_ids" {
  description = "Subnets for the instances, best in two Availability Zones or more. Default: one private subnet of the VPC per zone."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) <= 16
    error_message = "subnet_ids must name at most 16 subnets; leave it out to use one private subnet per zone."
  }

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "subnet_ids must be ids of subnets, such as subnet-0123456789abcdef0."
  }
}

variable "excluded_zone_ids" {
  description = "Ids of Availability Zones in which Lambda refuses subnets, such as use1-az3. No subnet there is chosen."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.excluded_zone_ids : can(regex("^[a-z]+[0-9]+-az[0-9]+$", id))])
    error_message = "excluded_zone_ids must be ids of zones, such as use1-az3, not names, such as us-east-1c, which mean another zone in each account."
  }

  validation {
    condition     = length(var.excluded_zone_ids) == 0 || length(var.subnet_ids) == 0
    error_message = "excluded_zone_ids is for the choice of subnets, and subnet_ids leaves none: set one of the two."
  }
}

variable "capacity_provider_arn" {
  description = "Existing capacity provider, instead of a new one with its role and security group. It must have the architecture of the function."
  type        = string
  default     = null

  validation {
    condition     = var.capacity_provider_arn == null || can(regex("^arn:aws[a-z-]*:lambda:${local.region}:[0-9]{12}:capacity-provider:[a-zA-Z0-9-_]{1,140}$", var.capacity_provider_arn))
    error_message = "capacity_provider_arn must be the ARN of a capacity provider in ${local.region}, such as arn:aws:lambda:${local.region}:123456789012:capacity-provider:name."
  }

  validation {
    # CreateFunction takes no longer ones, although a name alone may have 140 characters.
    condition     = var.capacity_provider_arn == null || try(length(var.capacity_provider_arn) <= 140, false)
    error_message = "capacity_provider_arn must be at most 140 characters long: the capacity provider needs a shorter name."
  }

  validation {
    condition = var.capacity_provider_arn == null || (
      length(setunion(var.subnet_ids, var.excluded_zone_ids, var.allowed_instance_types, var.excluded_instance_types, var.dns_server_cidrs)) == 0 &&
      var.kms_key_arn == null && var.scaling_mode == "Auto" && !var.create_logs_endpoint && !var.logs_endpoint_exists
    )
    error_message = "An existing capacity provider keeps its own subnets, key, scaling, instance types and network: with capacity_provider_arn, leave out subnet_ids, excluded_zone_ids, kms_key_arn, scaling_mode, create_logs_endpoint, logs_endpoint_exists, dns_server_cidrs, allowed_instance_types and excluded_instance_types."
  }
}

variable "create_logs_endpoint" {
  description = "Create an interface endpoint for CloudWatch Logs, for a VPC without NAT. It takes over the name logs.<region>.amazonaws.com in the whole VPC and admits only the instances."
  type        = bool
  default     = false
  nullable    = false
}

variable "logs_endpoint_exists" {
  description = "The VPC has an interface endpoint for CloudWatch Logs already, with private DNS, which admits the instances."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.logs_endpoint_exists || !var.create_logs_endpoint
    error_message = "A VPC cannot have two endpoints with the same private DNS name: set logs_endpoint_exists or create_logs_endpoint, not both."
  }
}

variable "dns_server_cidrs" {
  description = "Addresses of the VPC's own DNS servers, such as [\"10.0.0.2/32\"], which the instances may ask. Default: none; Amazon's DNS server needs no rule."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.dns_server_cidrs : can(cidrhost(cidr, 0))])
    error_message = "dns_server_cidrs must be ranges of addresses, such as 10.0.0.2/32."
  }
}

variable "execution_role_arn" {
  description = "Existing execution role, instead of a new one. It must be allowed to write to the function's log. Default: a role that may do that and nothing else."
  type        = string
  default     = null

  validation {
    condition     = var.execution_role_arn == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.execution_role_arn))
    error_message = "execution_role_arn must be the ARN of a role, such as arn:aws:iam::123456789012:role/name."
  }
}

variable "create_function_url" {
  description = "Create a Function URL for callers with IAM credentials."
  type        = bool
  default     = false
  nullable    = false
}

variable "function_url_cors" {
  description = "CORS of the Function URL: allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age. Default: none, so a browser refuses replies to pages of other origins."
  type        = any # an object would drop a member with a typo in its name
  default     = null

  validation {
    condition     = var.function_url_cors == null || try(length(setsubtract(keys(var.function_url_cors), ["allow_credentials", "allow_headers", "allow_methods", "allow_origins", "expose_headers", "max_age"])) == 0, false)
    error_message = "function_url_cors has allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials and max_age, and nothing else."
  }

  validation {
    condition     = var.function_url_cors == null || var.create_function_url
    error_message = "function_url_cors needs create_function_url = true."
  }
}

variable "create_monitoring" {
  description = "Create alarms and a dashboard in CloudWatch."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that the alarms notify. Default: none."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null || can(regex("^arn:aws[a-z-]*:sns:${local.region}:[0-9]{12}:[a-zA-Z0-9-_]{1,256}$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn must be the ARN of a standard SNS topic in ${local.region}, such as arn:aws:sns:${local.region}:123456789012:name (CloudWatch alarms cannot notify a FIFO topic)."
  }

  validation {
    condition     = var.alarm_topic_arn == null || var.create_monitoring
    error_message = "Without create_monitoring there are no alarms that alarm_topic_arn could be notified of."
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch keeps the logs of the function and of the capacity provider."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch Logs accepts (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653), not ${var.log_retention_days}."
  }
}

variable "log_deletion_protection_enabled" {
  description = "Whether CloudWatch refuses to delete the log groups, with which terraform destroy fails until it is false again."
  type        = bool
  default     = null
}

variable "kms_key_arn" {
  description = "KMS key for the instances' volumes. Default: AWS's key. Setting, changing or removing it replaces the capacity provider and the function."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:${local.region}:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key (not of an alias) in ${local.region}, such as arn:aws:kms:${local.region}:123456789012:key/<id>."
  }
}

variable "logs_kms_key_arn" {
  description = "KMS key for the log groups. Its policy must admit logs.<region>.amazonaws.com. Default: CloudWatch's own encryption."
  type        = string
  default     = null

  validation {
    condition     = var.logs_kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:${local.region}:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.logs_kms_key_arn))
    error_message = "logs_kms_key_arn must be the ARN of a key (not of an alias) in ${local.region}, such as arn:aws:kms:${local.region}:123456789012:key/<id>."
  }
}

variable "iam_path" {
  description = "Path of the IAM roles. Changing it replaces the roles, the capacity provider and the function."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.iam_path)) && length(var.iam_path) <= 512
    error_message = "iam_path must begin and end with a slash, contain neither spaces nor empty parts, and be at most 512 characters long, such as /platform/. It is \"${var.iam_path}\"."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the IAM roles. Default: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy, such as arn:aws:iam::123456789012:policy/boundary."
  }
}
