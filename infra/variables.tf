variable "region" {
  description = "AWS Region of everything here."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of a Region, such as us-east-1, not \"${var.region}\"."
  }
}

variable "vpc_id" {
  description = "Existing VPC in which Lambda launches the instances."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC, such as vpc-0123456789abcdef0, not \"${var.vpc_id}\"."
  }
}

variable "function_name" {
  description = "Name of the function; the other names begin with it."
  type        = string
  default     = "fibonacci-generator"
  nullable    = false

  validation {
    # IAM takes 38 characters as the prefix of a role's name, and "-cp-operator-" is 13 of them.
    condition     = can(regex("^[a-zA-Z0-9-_]{1,25}$", var.function_name))
    error_message = "function_name must be 1 to 25 letters, digits, hyphens or underscores (the operator role's name has no room for more), not \"${var.function_name}\"."
  }
}

variable "filename" {
  description = "Zip with the executable `bootstrap`, relative to infra/: what `cargo lambda build` writes."
  type        = string
  default     = "../target/lambda/fibonacci-generator/bootstrap.zip"
  nullable    = false
}

variable "architecture" {
  description = "Instruction set of the instances and of the zip: x86_64 or arm64. Changing it replaces capacity provider and function."
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
    error_message = "memory_size must be from 2048 to 32768 MB, not ${var.memory_size}: Managed Instances take no less than 2048."
  }

  validation {
    condition     = var.memory_size % (var.memory_gib_per_vcpu * 1024) == 0
    error_message = "memory_size must give whole vCPUs: with memory_gib_per_vcpu = ${var.memory_gib_per_vcpu} it must be a multiple of ${var.memory_gib_per_vcpu * 1024}, not ${var.memory_size}."
  }
}

variable "memory_gib_per_vcpu" {
  description = "GiB of memory per vCPU of an execution environment: 2, 4 or 8 (Lambda's C, M and R instances)."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([2, 4, 8], var.memory_gib_per_vcpu)
    error_message = "memory_gib_per_vcpu must be 2, 4 or 8, not ${var.memory_gib_per_vcpu}."
  }
}

variable "max_concurrency" {
  description = "Invocations that one execution environment serves at once. Default: 8 per vCPU, as Lambda's own for Rust."
  type        = number
  default     = null

  validation {
    condition     = var.max_concurrency == null || try(var.max_concurrency >= 1 && var.max_concurrency <= 1600 && floor(var.max_concurrency) == var.max_concurrency, false)
    error_message = "max_concurrency must be a whole number from 1 to 1600; leave it out for 8 per vCPU."
  }

  validation {
    condition     = var.max_concurrency == null || try(var.max_concurrency <= 64 * var.memory_size / 1024 / var.memory_gib_per_vcpu, false)
    error_message = "max_concurrency may be at most 64 per vCPU, here ${64 * var.memory_size / 1024 / var.memory_gib_per_vcpu}: lower it or raise memory_size."
  }
}

variable "timeout" {
  description = "Seconds that an invocation may take."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout must be a whole number of seconds from 1 to 900, not ${var.timeout}."
  }
}

variable "min_execution_environments" {
  description = "Execution environments that always run. Fewer than 3 cannot cover three Availability Zones; 0, with max_execution_environments = 0, switches the function off."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.min_execution_environments >= 0 && var.min_execution_environments <= 15000 && floor(var.min_execution_environments) == var.min_execution_environments
    error_message = "min_execution_environments must be a whole number from 0 to 15000, not ${var.min_execution_environments}."
  }

  validation {
    condition     = var.min_execution_environments * var.memory_size / 1024 / var.memory_gib_per_vcpu <= var.capacity_provider_max_vcpu
    error_message = "min_execution_environments = ${var.min_execution_environments} needs ${var.min_execution_environments * var.memory_size / 1024 / var.memory_gib_per_vcpu} vCPUs, more than capacity_provider_max_vcpu = ${var.capacity_provider_max_vcpu}: lower the one or raise the other."
  }
}

variable "max_execution_environments" {
  description = "Execution environments that run at most. Default: as many as capacity_provider_max_vcpu has room for."
  type        = number
  default     = null

  validation {
    condition     = var.max_execution_environments == null || try(var.max_execution_environments >= 0 && var.max_execution_environments <= 15000 && floor(var.max_execution_environments) == var.max_execution_environments, false)
    error_message = "max_execution_environments must be a whole number from 0 to 15000; leave it out for as many as the vCPU ceiling allows."
  }

  validation {
    condition     = var.max_execution_environments == null || try(var.max_execution_environments >= var.min_execution_environments, false)
    error_message = "max_execution_environments must not be less than min_execution_environments = ${var.min_execution_environments}."
  }

  validation {
    condition     = var.min_execution_environments > 0 || var.max_execution_environments == 0
    error_message = "Lambda takes min_execution_environments = 0 only together with max_execution_environments = 0, which switches the function off: set both to 0, or the minimum to 1 or more."
  }
}

variable "capacity_provider_max_vcpu" {
  description = "vCPUs that the capacity provider may run at most: the ceiling of what it costs. With capacity_provider_arn, that provider's own ceiling (for the alarm and the default of max_execution_environments)."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.capacity_provider_max_vcpu >= 2 && var.capacity_provider_max_vcpu <= 15000 && floor(var.capacity_provider_max_vcpu) == var.capacity_provider_max_vcpu
    error_message = "capacity_provider_max_vcpu must be a whole number from 2 to 15000, not ${var.capacity_provider_max_vcpu}."
  }
}

variable "scaling_mode" {
  description = "Auto, where Lambda chooses the CPU utilization to scale at, or Manual, where target_cpu_utilization does."
  type        = string
  default     = "Auto"
  nullable    = false

  validation {
    condition     = contains(["Auto", "Manual"], var.scaling_mode)
    error_message = "scaling_mode must be Auto or Manual, not \"${var.scaling_mode}\"."
  }
}

variable "target_cpu_utilization" {
  description = "Average CPU utilization of the instances, in percent, that the scaling policy of scaling_mode = \"Manual\" keeps. Lower leaves more room for bursts."
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

variable "subnet_ids" {
  description = "Subnets for the instances, in two Availability Zones or more. Default: one private subnet of the VPC per zone."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = contains(concat([0], range(2, 17)), length(var.subnet_ids))
    error_message = "subnet_ids must name 2 to 16 subnets, in two Availability Zones or more; leave it out to have one per zone chosen."
  }

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "subnet_ids must be ids of subnets, such as subnet-0123456789abcdef0."
  }
}

variable "capacity_provider_arn" {
  description = "Existing capacity provider to run on, instead of a new one with its role and security group. Its architecture must be the function's."
  type        = string
  default     = null

  validation {
    condition     = var.capacity_provider_arn == null || can(regex("^arn:aws[a-z-]*:lambda:${var.region}:[0-9]{12}:capacity-provider:[a-zA-Z0-9-_]{1,140}$", var.capacity_provider_arn))
    error_message = "capacity_provider_arn must be the ARN of a capacity provider in ${var.region}, such as arn:aws:lambda:${var.region}:123456789012:capacity-provider:name."
  }

  validation {
    condition     = var.capacity_provider_arn == null || (length(var.subnet_ids) == 0 && var.kms_key_arn == null && var.scaling_mode == "Auto" && !var.create_logs_endpoint)
    error_message = "With capacity_provider_arn the provider keeps its own subnets, key, scaling and network: leave out subnet_ids, kms_key_arn, scaling_mode and create_logs_endpoint."
  }
}

variable "create_logs_endpoint" {
  description = "Interface endpoint for CloudWatch Logs, for a VPC without NAT. It takes over the name logs.<region>.amazonaws.com in the whole VPC and admits the instances only."
  type        = bool
  default     = false
  nullable    = false
}

variable "create_function_url" {
  description = "Function URL for callers with IAM credentials."
  type        = bool
  default     = false
  nullable    = false
}

variable "create_monitoring" {
  description = "Alarms and a dashboard in CloudWatch."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that the alarms notify. Default: none."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null || can(regex("^arn:aws[a-z-]*:sns:${var.region}:[0-9]{12}:[a-zA-Z0-9-_]{1,256}$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn must be the ARN of a standard SNS topic in ${var.region}, such as arn:aws:sns:${var.region}:123456789012:name (CloudWatch alarms notify no FIFO topic)."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch keeps the function's log."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch Logs knows (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653), not ${var.log_retention_days}."
  }
}

variable "kms_key_arn" {
  description = "KMS key for the instances' volumes. Default: an AWS-managed one. Changing it replaces capacity provider and function."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:${var.region}:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key (not of an alias) in ${var.region}, such as arn:aws:kms:${var.region}:123456789012:key/<id>."
  }
}

variable "logs_kms_key_arn" {
  description = "KMS key for the function's log group; its policy must admit logs.<region>.amazonaws.com. Default: CloudWatch's own encryption."
  type        = string
  default     = null

  validation {
    condition     = var.logs_kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:${var.region}:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.logs_kms_key_arn))
    error_message = "logs_kms_key_arn must be the ARN of a key (not of an alias) in ${var.region}, such as arn:aws:kms:${var.region}:123456789012:key/<id>."
  }
}
