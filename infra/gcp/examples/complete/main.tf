# Snapkeep with everything around it, for two invented tenants of the vendor example.com. Whoever applies it needs the
# rights to bind roles in the tenants' projects too; where tenants do that themselves, give them the module tenant alone
# (the README says how).
terraform {
  required_version = ">= 1.9"

  # make deploy ROOT=infra/gcp/examples/complete gives the bucket: PROJECT-snapkeep, prefix state
  backend "gcs" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

variable "project" {
  description = "Id of the project that Snapkeep has to itself."
  type        = string
}

variable "region" {
  description = "Where it runs and keeps its documents."
  type        = string
}

variable "release" {
  description = "The archive in the project's bucket that is deployed."
  type        = string
}

module "snapkeep" {
  source = "../.."

  project = var.project
  region  = var.region
  release = var.release

  # People: through the door come those of the company, and do what their role says. Nobody else is known.
  domain      = "snapkeep.example.com"
  iap_members = ["domain:example.com"]
  people = {
    "ana@example.com"   = "admin"
    "bruno@example.com" = "operator"
    "carla@example.com" = "auditor"
  }
  # An OAuth client of our own, for programs that sign in (SNAPKEEP_IAP_CLIENT of the command line). Its secret was put
  # into Secret Manager by who made it.
  iap_oauth = {
    client_id = "000000000000-example.apps.googleusercontent.com"
    secret    = "snapkeep-iap-oauth"
  }
  door_requests_per_minute = 300

  # Function restore asks restored applications whether they answer, over the network that they are restored into.
  network = {
    network    = "projects/example-hub/global/networks/hub"
    subnetwork = "projects/example-hub/regions/${var.region}/subnetworks/snapkeep-probe"
  }

  # Who is told, and when.
  alert_emails      = ["backups@example.com"]
  quota_alert_ratio = 0.7

  # The company has an organization, so that deletions by anybody else can be denied.
  deny_deletions = true

  # This is production: what staging was tested with, once somebody has approved it. In staging's root `production` names
  # this project instead, and nobody approves. sk-deploy then applies this root, so the tenants grant it what
  # tenant/README.md says, and the organization roles/iam.denyAdmin; or their modules are in a root that a person applies.
  pipeline = {
    repository = "projects/${var.project}/locations/${var.region}/connections/git/repositories/snapkeep"
    root       = "infra/gcp/examples/complete"
    api        = "https://snapkeep.example.com"
    iap_client = "123456789012-snapkeep.apps.googleusercontent.com"
    canary     = { tenant = "canary", instance = "canary-1" }
    approvers  = ["group:releases@example.com"]
    promoters  = ["serviceAccount:sk-deploy@example-staging.iam.gserviceaccount.com"]
  }

  labels = { cost_center = "backups" }
}

# A SaaS tenant with the inter-region add-on: its snapshots are in a vault project of its own, at home and in a second
# region, encrypted with its keys of each, and proven every month in a network without a way in or out.
module "alpes" {
  source = "../../tenant"

  project          = "alpes-production"
  vault_project    = "alpes-vault"
  service_accounts = module.snapkeep.service_accounts
  run_as           = ["app@alpes-production.iam.gserviceaccount.com"]

  kms_keys = {
    southamerica-east1 = "projects/alpes-keys/locations/southamerica-east1/keyRings/backups/cryptoKeys/points"
    southamerica-west1 = "projects/alpes-keys/locations/southamerica-west1/keyRings/backups/cryptoKeys/points"
  }

  restore_test = {
    ranges = {
      southamerica-east1 = "10.99.0.0/24"
      southamerica-west1 = "10.99.1.0/24"
    }
  }

  # One moment of both disks of its database.
  consistency_groups = {
    alpes-database = {
      region = "southamerica-east1"
      disks  = ["zones/southamerica-east1-a/disks/database-boot", "zones/southamerica-east1-a/disks/database-data"]
    }
  }

  deny_deletions = true
  monitored_by   = module.snapkeep.project
}

# A private SaaS tenant: one project, its instances on a network of its own host project.
module "borba" {
  source = "../../tenant"

  project          = "borba-clinic"
  service_accounts = module.snapkeep.service_accounts
  network_project  = "borba-network"
  subnetworks      = ["projects/borba-network/regions/southamerica-east1/subnetworks/clinic"]
  run_as           = ["clinic@borba-clinic.iam.gserviceaccount.com"]
  monitored_by     = module.snapkeep.project
}

output "snapkeep" {
  description = "What others need to know of it: `snapkeep doctor`, and whoever points the domain at it."
  value       = module.snapkeep
}

output "fleet" {
  description = "What the tenants' entries of the fleet file have to say about what was made here."
  value = {
    alpes = module.alpes.fleet
    borba = module.borba.fleet
  }
}
