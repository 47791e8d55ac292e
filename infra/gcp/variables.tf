variable "project" {
  description = "Id of Snapkeep's own project. Nothing of a tenant is in it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: expected the id of a project (6 to 30 of a-z, 0-9 and -, such as acme-snapkeep), not its number or name."
  }
}

variable "region" {
  description = "Where the functions run and schedules and messages are kept."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: expected a region, such as southamerica-east1, not a zone or a multi-region."
  }
}

variable "release" {
  description = "What is deployed: the name of an archive in the bucket, as make package builds and make deploy uploads it. An older one rolls back."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^releases/functions-[0-9a-f]{12}\\.zip$", var.release))
    error_message = "release: expected releases/functions-HASH.zip with 12 hexadecimal digits, as make package names it."
  }
}

variable "bucket" {
  description = "The bucket that make bootstrap made, with the releases and Terraform's state. Null: PROJECT-snapkeep."
  type        = string
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: expected the name of a bucket alone, without gs:// and without a path."
  }
}

variable "firestore_location" {
  description = "Where the documents are. It cannot be changed later. Null: the region."
  type        = string
  default     = null

  validation {
    condition     = var.firestore_location == null || can(regex("^([a-z]+-[a-z]+[0-9]+|nam5|eur3)$", var.firestore_location))
    error_message = "firestore_location: expected a region, such as southamerica-east1, or nam5 or eur3."
  }
}

variable "database" {
  description = "The Firestore database that is made for Snapkeep alone."
  type        = string
  default     = "(default)"
  nullable    = false

  validation {
    condition     = var.database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database))
    error_message = "database: expected (default), or 4 to 63 of a-z, 0-9 and -, beginning with a letter."
  }
}

variable "people" {
  description = "Who may do what: email address to role. Each is written once, and anew when the role changes here."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for email in keys(var.people) : can(regex("^[^@/\\sA-Z]+@[^@/\\sA-Z]+\\.[^@/\\sA-Z]+$", email))])
    error_message = "people: expected email addresses in small letters, as Identity-Aware Proxy tells them."
  }

  validation {
    # client_admin is of one tenant and is set with it.
    condition     = alltrue([for role in values(var.people) : contains(["viewer", "operator", "admin", "auditor"], role)])
    error_message = "people: expected each role to be one of viewer, operator, admin, auditor."
  }
}

variable "domain" {
  description = "The name under which people reach the pages, pointed at the output `address`. Null: no load balancer, no Identity-Aware Proxy, and no way in from outside."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain: expected a full domain name in small letters, such as snapkeep.example.com, without https:// and without a path."
  }
}

variable "iap_members" {
  description = "Whom Identity-Aware Proxy lets through to the door: user:, group:, serviceAccount: or domain:. What they may do there stands in `people`."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.iap_members : can(regex("^(user|group|serviceAccount|domain):\\S+$", member))])
    error_message = "iap_members: expected user:EMAIL, group:EMAIL, serviceAccount:EMAIL or domain:DOMAIN; never allUsers or allAuthenticatedUsers."
  }
}

variable "iap_oauth" {
  description = "An OAuth client of your own for Identity-Aware Proxy: needed where people from outside the organization or programs sign in. Its secret is read from Secret Manager. Null: Google's own client, and no secret at all."
  type = object({
    client_id = string
    secret    = string # name of the secret in Snapkeep's project
  })
  default = null

  validation {
    condition     = var.iap_oauth == null || can(regex("\\.apps\\.googleusercontent\\.com$", var.iap_oauth.client_id))
    error_message = "iap_oauth: expected client_id to end in .apps.googleusercontent.com."
  }

  validation {
    condition     = var.iap_oauth == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.iap_oauth.secret))
    error_message = "iap_oauth: expected secret to be the name of a secret in Secret Manager, not its value or path."
  }
}

variable "door_requests_per_minute" {
  description = "Requests that Cloud Armor lets one address make in a minute, before Identity-Aware Proxy. Null: no Cloud Armor."
  type        = number
  default     = 600

  validation {
    condition     = var.door_requests_per_minute == null || try(var.door_requests_per_minute >= 60 && var.door_requests_per_minute <= 1000000, false)
    error_message = "door_requests_per_minute: expected 60 to 1000000, or null."
  }
}

variable "network" {
  description = "Where function restore reaches restored instances, to ask their application whether it answers: links of a network and of a subnetwork of Snapkeep's region, a /28 that nothing else uses. Null: probes find nothing, and restores say so."
  type = object({
    network    = string
    subnetwork = string
  })
  default = null

  validation {
    condition     = var.network == null || can(regex("^projects/[^/]+/global/networks/[^/]+$", var.network.network))
    error_message = "network: expected network as projects/PROJECT/global/networks/NAME."
  }

  validation {
    condition     = var.network == null || can(regex("^projects/[^/]+/regions/[^/]+/subnetworks/[^/]+$", var.network.subnetwork))
    error_message = "network: expected subnetwork as projects/PROJECT/regions/REGION/subnetworks/NAME."
  }
}

variable "deny_deletions" {
  description = "Whether a deny policy keeps everybody but Snapkeep's own functions from deleting snapshots in this project. Attaching one needs roles/iam.denyAdmin, which only an organization can give."
  type        = bool
  default     = false
  nullable    = false
}

variable "notification_channels" {
  description = "Monitoring's notification channels that alerts go to, besides alert_emails."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", one))])
    error_message = "notification_channels: expected projects/PROJECT/notificationChannels/NUMBER each."
  }
}

variable "alert_emails" {
  description = "Addresses that alerts are mailed to: a notification channel is made of each."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", one))])
    error_message = "alert_emails: expected email addresses."
  }
}

variable "runbook_url" {
  description = "Where docs/runbook.md can be read, such as the page of your repository's copy: alerts link to its chapters. Null: they name the chapter."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || can(regex("^https://[^#]+$", var.runbook_url))
    error_message = "runbook_url: expected an address that begins with https:// and has no #."
  }
}

variable "quota_alert_ratio" {
  description = "The part of a quota in use from which on an alert is raised."
  type        = number
  default     = 0.8
  nullable    = false

  validation {
    condition     = var.quota_alert_ratio > 0 && var.quota_alert_ratio < 1
    error_message = "quota_alert_ratio: expected more than 0 and less than 1, such as 0.8."
  }
}

variable "labels" {
  description = "Labels on everything that carries labels, besides app = snapkeep."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels: expected keys and values of at most 63 of a-z, 0-9, _ and -, keys beginning with a letter."
  }
}

variable "deletion_protection" {
  description = "Whether the documents outlive make destroy: the database is protected and left where it is. False only where nothing in it is worth keeping."
  type        = bool
  default     = true
  nullable    = false
}

variable "pipeline" {
  description = "What Cloud Build deploys this deployment from; see pipeline.tf. With `production` it is staging, which tests every push and asks there; without, it is production, which waits for an approval. Null: no triggers, no account that deploys."
  type = object({
    repository = string # as a second generation connection holds it
    branch     = optional(string, "main")
    production = optional(string) # of staging: production's project
    root       = optional(string, "infra/gcp/examples/minimal")
    api        = string # where it is asked: https://...
    iap_client = string # the OAuth client that Identity-Aware Proxy is asked by
    canary = object({
      tenant   = string
      instance = string
    })
    approvers = optional(set(string), []) # of production: who approves, user: or group:
    promoters = optional(set(string), []) # of production: who may ask, such as staging's serviceAccount:sk-deploy@...
  })
  default = null

  validation {
    condition     = var.pipeline == null || can(regex("^projects/[^/]+/locations/[^/]+/connections/[^/]+/repositories/[^/]+$", var.pipeline.repository))
    error_message = "pipeline: expected repository as projects/PROJECT/locations/REGION/connections/NAME/repositories/NAME."
  }

  validation {
    condition     = var.pipeline == null || can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", var.pipeline.branch))
    error_message = "pipeline: expected branch to be a branch's name, such as main, not a pattern."
  }

  validation {
    condition     = var.pipeline == null || can(regex("^https://[^/]+/?$", var.pipeline.api))
    error_message = "pipeline: expected api as https://DOMAIN, where people find this deployment's pages."
  }

  validation {
    condition     = var.pipeline == null || try(var.pipeline.production == null || length(setunion(var.pipeline.approvers, var.pipeline.promoters)) == 0, false)
    error_message = "pipeline: approvers and promoters are production's; staging, which names a production, has none."
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
