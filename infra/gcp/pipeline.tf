# What deploys, where a repository is named: a trigger of Cloud Build and the account that it works as. Staging tests every
# push and asks production; production waits until a person has approved. cloudbuild.yaml and cloudbuild-promote.yaml are
# what they do.

locals {
  staging    = try(var.pipeline.production, null) != null
  production = var.pipeline != null && !local.staging

  # What cloudbuild.yaml and cloudbuild-promote.yaml both are told.
  pipeline_settings = var.pipeline == null ? {} : {
    _REGION          = var.region
    _ROOT            = var.pipeline.root
    _API             = var.pipeline.api
    _IAP_CLIENT      = var.pipeline.iap_client
    _CANARY_TENANT   = var.pipeline.canary.tenant
    _CANARY_INSTANCE = var.pipeline.canary.instance
  }

  # Whoever applies this module makes accounts, roles and their bindings, so it could make itself any role in this project:
  # that is what is wide here, and why only a push to the branch, and in production an approval, gets to use it. It has
  # nothing in tenants' projects, and cannot delete a snapshot there.
  deployer_roles = var.pipeline == null ? {} : merge(
    {
      "roles/artifactregistry.admin"          = "the repository of the functions' images and who reads it"
      "roles/cloudbuild.builds.editor"        = "these triggers"
      "roles/cloudfunctions.admin"            = "the functions"
      "roles/cloudscheduler.admin"            = "the schedules"
      "roles/datastore.owner"                 = "the database, its indexes, the first people"
      "roles/iam.roleAdmin"                   = "a custom role for each function"
      "roles/iam.serviceAccountAdmin"         = "an account for each function"
      "roles/iam.serviceAccountUser"          = "to deploy a function as its account; on the project, since the accounts are made by the same apply"
      "roles/logging.configWriter"            = "log-based metrics"
      "roles/logging.logWriter"               = "what a build says"
      "roles/monitoring.editor"               = "alerts, channels, the dashboard"
      "roles/pubsub.admin"                    = "topics, subscriptions and who publishes to them"
      "roles/resourcemanager.projectIamAdmin" = "the bindings of those roles: the widest one. A condition can name ten roles at the most, and there are more"
      "roles/run.admin"                       = "who may call a function"
      "roles/serviceusage.serviceUsageAdmin"  = "the APIs"
    },
    var.domain == null ? {} : {
      "roles/compute.loadBalancerAdmin" = "the door"
      "roles/compute.securityAdmin"     = "its certificate and its limit of requests"
      "roles/iap.admin"                 = "whom Identity-Aware Proxy lets through"
    },
    var.network == null ? {} : { "roles/vpcaccess.admin" = "the connector to restored instances" },
    var.iap_oauth == null ? {} : { "roles/secretmanager.secretAccessor" = "the secret of Identity-Aware Proxy's client" },
  )
}

resource "google_service_account" "deploy" {
  count = var.pipeline == null ? 0 : 1

  project      = var.project
  account_id   = "sk-deploy"
  display_name = "Snapkeep: deploys"
  description  = "As whom Cloud Build applies this Terraform; its roles and why stand in infra/gcp/pipeline.tf."

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "deploy" {
  for_each = local.deployer_roles

  project = var.project
  role    = each.key
  member  = google_service_account.deploy[0].member
}

# The releases and Terraform's state: of all buckets this one.
resource "google_storage_bucket_iam_member" "deploy" {
  for_each = toset(var.pipeline == null ? [] : ["roles/storage.legacyBucketReader", "roles/storage.objectAdmin"])

  bucket = local.bucket
  role   = each.key
  member = google_service_account.deploy[0].member
}

resource "google_cloudbuild_trigger" "staging" {
  count = local.staging ? 1 : 0

  project         = var.project
  location        = var.region
  name            = "snapkeep-staging"
  description     = "Tests a push, deploys it here, asks whether it works, and asks for it in ${var.pipeline.production}"
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.deploy[0].id
  substitutions   = merge(local.pipeline_settings, { _PRODUCTION = var.pipeline.production })

  repository_event_config {
    repository = var.pipeline.repository
    push {
      branch = "^${replace(var.pipeline.branch, ".", "\\.")}$"
    }
  }

  lifecycle {
    precondition {
      condition     = var.pipeline.production != var.project
      error_message = "pipeline: expected production to be another project than this one, staging."
    }
  }

  depends_on = [google_project_iam_member.deploy]
}

# Nothing starts it but make promote, which says the commit and the release.
resource "google_cloudbuild_trigger" "production" {
  count = local.production ? 1 : 0

  project         = var.project
  location        = var.region
  name            = "snapkeep-production"
  description     = "Deploys the release that staging was tested with, and goes back where it does not work"
  service_account = google_service_account.deploy[0].id
  substitutions   = merge(local.pipeline_settings, { _RELEASE = "" })

  source_to_build {
    repository = var.pipeline.repository
    ref        = "refs/heads/${var.pipeline.branch}"
    repo_type  = "UNKNOWN" # a repository of a connection says by itself what it is
  }

  git_file_source {
    path       = "cloudbuild-promote.yaml"
    repository = var.pipeline.repository
    revision   = "refs/heads/${var.pipeline.branch}"
    repo_type  = "UNKNOWN"
  }

  approval_config {
    approval_required = true
  }

  depends_on = [google_project_iam_member.deploy]
}

resource "google_project_iam_member" "approver" {
  for_each = local.production ? var.pipeline.approvers : toset([])

  project = var.project
  role    = "roles/cloudbuild.builds.approver"
  member  = each.key

  depends_on = [google_project_service.api]
}

# To start the trigger and to see what became of it. builds.create is also the right to hand in a build of one's own; but
# one that works as sk-deploy needs the right to act as it, which is not given here. One that names no account works as
# the project's default one: an approval cannot be gone round only where that one has no role such as Editor, which
# constraints/iam.automaticIamGrantsForDefaultServiceAccounts sees to.
resource "google_project_iam_custom_role" "promote" {
  count = local.production && length(try(var.pipeline.promoters, [])) > 0 ? 1 : 0

  project     = var.project
  role_id     = "${var.role_prefix}.promote"
  title       = "Snapkeep: asks for a release"
  description = "Starts the trigger that waits for an approval."
  permissions = ["cloudbuild.builds.create", "cloudbuild.builds.get"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "promoter" {
  for_each = local.production ? var.pipeline.promoters : toset([])

  project = var.project
  role    = google_project_iam_custom_role.promote[0].id
  member  = each.key
}
