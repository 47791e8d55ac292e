variable "project" {
  description = "Id of the tenant's project: its instances and disks are here, and what is restored of them."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: expected the id of a project (6 to 30 of a-z, 0-9 and -), not its number or name."
  }
}

variable "vault_project" {
  description = "Id of the project that holds the tenant's snapshots: one of its own keeps them from whoever breaks into `project`. Null: `project`."
  type        = string
  default     = null

  validation {
    condition     = var.vault_project == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.vault_project))
    error_message = "vault_project: expected the id of a project (6 to 30 of a-z, 0-9 and -), not its number or name."
  }
}

variable "grants_vault" {
  description = "False where several tenants share the vault project and another one's module grants it: roles are made once in a project."
  type        = bool
  default     = true
  nullable    = false
}

variable "service_accounts" {
  description = "The address of each function's service account, by function: output `service_accounts` of Snapkeep's own module."
  type        = map(string)
  nullable    = false

  validation {
    condition     = alltrue([for address in values(var.service_accounts) : can(regex("^sk-[a-z-]+@[a-z0-9-]+\\.iam\\.gserviceaccount\\.com$", address))])
    error_message = "service_accounts: expected addresses as sk-expire@SNAPKEEP-PROJECT.iam.gserviceaccount.com, by function."
  }

  validation {
    condition     = length(setsubtract(local.functions, keys(var.service_accounts))) == 0
    error_message = "service_accounts: expected one for each of ${join(", ", local.functions)}, as output service_accounts of Snapkeep's own module has them."
  }
}

variable "kms_keys" {
  description = "The tenant's Cloud KMS keys by region, as kms_keys of the fleet file has them: Compute Engine itself is let use them. Keys that encrypt its disks now belong here too."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for region, key in var.kms_keys : can(regex("^projects/[^/]+/locations/${region}/keyRings/[^/]+/cryptoKeys/[^/]+$", key))])
    error_message = "kms_keys: expected region = projects/P/locations/REGION/keyRings/R/cryptoKeys/K with the same region, without a version."
  }
}

variable "network_project" {
  description = "Id of the project that hosts the network of restored instances (of a Shared VPC). Null: `project`."
  type        = string
  default     = null

  validation {
    condition     = var.network_project == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.network_project))
    error_message = "network_project: expected the id of a project (6 to 30 of a-z, 0-9 and -), not its number or name."
  }
}

variable "subnetworks" {
  description = "The subnetworks that restored instances may be connected to, besides those of restore_test: of the instances themselves, and of recovery in the fleet file. Null: every subnetwork of `network_project`."
  type        = set(string)
  default     = null

  validation {
    condition     = var.subnetworks == null || alltrue([for one in coalesce(var.subnetworks, []) : can(regex("^projects/${local.network_project}/regions/[^/]+/subnetworks/[^/]+$", one))])
    error_message = "subnetworks: expected projects/P/regions/R/subnetworks/N each, with network_project (or project) as P."
  }
}

variable "run_as" {
  description = "Service accounts of `project` that restored instances may run as: those that its instances run as now, and recovery.service_account of the fleet file. As no other can one be started."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.run_as : endswith(address, "@${var.project}.iam.gserviceaccount.com") || can(regex("^[0-9]+-compute@developer\\.gserviceaccount\\.com$", address))])
    error_message = "run_as: expected addresses of service accounts of `project`: a role of one project cannot be granted on another's."
  }
}

variable "restore_test" {
  description = "The network that points are restored into to prove them, made here without a way in or out: an address range by region, of which nothing outside needs to know. Null: none."
  type = object({
    name   = optional(string, "snapkeep-restore-test")
    ranges = map(string) # by region
  })
  default = null

  validation {
    condition     = var.restore_test == null || (try(length(var.restore_test.ranges), 0) > 0 && alltrue([for range in values(try(var.restore_test.ranges, {})) : can(cidrnetmask(range))]))
    error_message = "restore_test: expected ranges as region = \"10.99.0.0/24\", one for each region that points are stored in."
  }
}

variable "consistency_groups" {
  description = "Disks whose snapshots are to be of one moment (consistency: group in the fleet file), by the group's name: disks as zones/ZONE/disks/NAME or regions/REGION/disks/NAME, all of one zone or one region."
  type = map(object({
    region = string
    disks  = set(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.consistency_groups) : can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", name))])
    error_message = "consistency_groups: expected names of 1 to 63 of a-z, 0-9 and -, beginning with a letter."
  }

  validation {
    condition = alltrue([
      for group in values(var.consistency_groups) : alltrue([
        for disk in group.disks : can(regex("^(zones/${group.region}-[a-z]|regions/${group.region})/disks/[^/]+$", disk))
      ])
    ])
    error_message = "consistency_groups: expected disks as zones/ZONE/disks/NAME or regions/REGION/disks/NAME, in the region of their group."
  }
}

variable "deny_deletions" {
  description = "Whether a deny policy on the vault project keeps everybody but Snapkeep's expiry from deleting snapshots there, owners included. Attaching one needs roles/iam.denyAdmin, which only an organization can give."
  type        = bool
  default     = false
  nullable    = false
}

variable "monitored_by" {
  description = "Snapkeep's project, where it is to see this project's quotas and alert before one stops backups: who applies this needs roles/monitoring.metricsScopesAdmin there. Null: it does not see them."
  type        = string
  default     = null

  validation {
    condition     = var.monitored_by == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.monitored_by))
    error_message = "monitored_by: expected the id of a project (6 to 30 of a-z, 0-9 and -), not its number or name."
  }
}

variable "role_prefix" {
  description = "What the ids of custom roles begin with. Google keeps a deleted role's id: Terraform takes the role back within 7 days, and until the 37th day none of that id can be made. Who comes back in between gives another prefix, and gives it to `snapkeep doctor --role-prefix`."
  type        = string
  default     = "snapkeep"
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_]{3,20}$", var.role_prefix))
    error_message = "role_prefix: expected 3 to 20 of a-z, A-Z, 0-9 and _, such as snapkeep2."
  }
}
