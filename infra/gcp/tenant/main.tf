# What Snapkeep may do in one tenant's project, and nothing else. Apply it once for each project. Which permissions each
# role holds, and what for, stands in docs/permissions.md; it is read from the lists that Snapkeep itself is built from.
module "catalogue" {
  source = "../catalogue"
}

locals {
  vault_project   = coalesce(var.vault_project, var.project)
  network_project = coalesce(var.network_project, var.project)

  # Functions that have something to do in a tenant's projects.
  functions = distinct([for one in values(module.catalogue.roles) : one.function if !contains(["snapkeep", "topic"], one.place)])

  # Each place with the projects that its roles are made in. The network of restore tests is in `project`, also where
  # the instances' network is another project's.
  tested = var.restore_test == null ? [] : [var.project]
  projects = {
    instances       = [var.project]
    vault           = var.grants_vault ? [local.vault_project] : []
    network         = distinct(concat([local.network_project], local.tested))
    subnetwork      = distinct(concat(try(length(var.subnetworks) == 0, false) ? [] : [local.network_project], local.tested))
    service_account = length(var.run_as) > 0 ? [var.project] : []
  }

  roles = {
    for one in flatten([
      for key, role in module.catalogue.roles : [
        for project in lookup(local.projects, role.place, []) : merge(role, { key = "${project}/${role.id}", project = project })
      ]
    ]) : one.key => one
  }

  members = { for function in local.functions : function => "serviceAccount:${var.service_accounts[function]}" }

  # Granted on the project; the others are granted on single subnetworks and service accounts.
  on_project = {
    for key, role in local.roles : key => role
    if contains(["instances", "vault", "network"], role.place) || (role.place == "subnetwork" && var.subnetworks == null && role.project == local.network_project)
  }
}

# The Compute Engine API holds snapshots, also in a project without an instance.
resource "google_project_service" "compute" {
  for_each = toset(distinct([var.project, local.vault_project]))

  project            = each.value
  service            = "compute.googleapis.com"
  disable_on_destroy = false # what else is in the project stays as it is
}

resource "google_project_iam_custom_role" "role" {
  for_each = local.roles

  project     = each.value.project
  role_id     = replace(each.value.id, "/^snapkeep/", var.role_prefix)
  title       = "Snapkeep ${each.value.function}: ${each.value.place}"
  description = "For function ${each.value.function} of Snapkeep; docs/permissions.md says what for."
  permissions = each.value.permissions
}

resource "google_project_iam_member" "function" {
  for_each = local.on_project

  project = each.value.project
  role    = google_project_iam_custom_role.role[each.key].id
  member  = local.members[each.value.function]

  # Google's conditions see the names of snapshots and disks. They see none in lists, nor of instant snapshots; and the
  # disks that a restore has replaced keep the tenant's names. Such permissions are in roles without a condition.
  dynamic "condition" {
    for_each = each.value.condition == "" ? [] : [module.catalogue.conditions[each.value.condition]]

    content {
      title       = condition.value.title
      description = "Only ${condition.value.words}."
      expression  = condition.value.expression
    }
  }
}

# --- what restored instances are connected to, and run as -------------------------------------------------------------

locals {
  subnetwork_role = one([for role in values(module.catalogue.roles) : role if role.place == "subnetwork"])
  run_as_role     = one([for role in values(module.catalogue.roles) : role if role.place == "service_account"])
}

resource "google_compute_subnetwork_iam_member" "restored" {
  for_each = coalesce(var.subnetworks, [])

  project    = split("/", each.value)[1]
  region     = split("/", each.value)[3]
  subnetwork = split("/", each.value)[5]
  role       = google_project_iam_custom_role.role["${local.network_project}/${local.subnetwork_role.id}"].id
  member     = local.members[local.subnetwork_role.function]
}

resource "google_service_account_iam_member" "restored" {
  for_each = var.run_as

  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = google_project_iam_custom_role.role["${var.project}/${local.run_as_role.id}"].id
  member             = local.members[local.run_as_role.function]
}

# --- keys -------------------------------------------------------------------------------------------------------------

# No function uses a key. Compute Engine's own service agents do: that of the disks' project, and that of the snapshots'.
data "google_project" "encrypting" {
  for_each = length(var.kms_keys) > 0 ? toset(distinct([var.project, local.vault_project])) : []

  project_id = each.value
}

resource "google_kms_crypto_key_iam_member" "compute_engine" {
  for_each = {
    for pair in setproduct(values(var.kms_keys), keys(data.google_project.encrypting)) :
    "${pair[0]} ${pair[1]}" => { key = pair[0], project = pair[1] }
  }

  crypto_key_id = each.value.key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${data.google_project.encrypting[each.value.project].number}@compute-system.iam.gserviceaccount.com"

  # Google makes the agent with the API.
  depends_on = [google_project_service.compute]
}

# --- what nobody may do -------------------------------------------------------------------------------------------------

# It goes before every role, owners' included. Its conditions know tags and no names, so it is for every snapshot of the
# project: best in a vault project of its own. Compute Engine's snapshot schedules delete theirs by another way.
resource "google_iam_deny_policy" "deletions" {
  count = var.deny_deletions && var.grants_vault ? 1 : 0

  parent       = urlencode("cloudresourcemanager.googleapis.com/projects/${local.vault_project}")
  name         = "snapkeep-deletions"
  display_name = "Snapkeep: recovery points"

  rules {
    description = "Snapshots are deleted by Snapkeep's expiry alone, which asks the retention rules first."

    deny_rule {
      denied_principals    = ["principalSet://goog/public:all"]
      exception_principals = ["principal://iam.googleapis.com/projects/-/serviceAccounts/${var.service_accounts["expire"]}"]
      denied_permissions   = ["compute.googleapis.com/snapshots.delete"]
    }
  }
}

# --- what is watched ----------------------------------------------------------------------------------------------------

resource "google_monitoring_monitored_project" "snapkeep" {
  for_each = var.monitored_by == null ? [] : toset(distinct([var.project, local.vault_project]))

  metrics_scope = var.monitored_by
  name          = each.value
}
