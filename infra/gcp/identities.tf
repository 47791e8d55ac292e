# Who acts: a service account for each function, with what infra/permissions.yaml says that its declarations need, and
# nothing else. None has a key: Cloud Run gives each function its own account's short-lived tokens. Where an organization
# can say so, enforce constraints/iam.disableServiceAccountKeyCreation on this project (deny.tf does without it).
# Functions need no role for their logs: Cloud Run takes what they print.

resource "google_service_account" "function" {
  for_each = local.functions

  project      = var.project
  account_id   = "sk-${replace(each.key, "_", "-")}"
  display_name = "Snapkeep ${each.key}"
  description  = "Function ${each.key}; what it may do and why stands in docs/permissions.md."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "push" {
  project      = var.project
  account_id   = "sk-push"
  display_name = "Snapkeep deliveries"
  description  = "As whom Pub/Sub calls the functions, which let nobody else in."

  depends_on = [google_project_service.api]
}

locals {
  # Those of Snapkeep's own project; a tenant's are granted by tenant/, in the tenant's project.
  own_roles = { for one in values(module.catalogue.roles) : one.function => one if one.place == "snapkeep" }

  publishing = {
    for one in flatten([
      for function, declared in local.functions : [
        for topic in declared.publishes : { function = function, topic = topic }
      ]
    ]) : "${one.function}/${one.topic}" => one
  }
}

# --- documents ------------------------------------------------------------------------------------------------------

resource "google_project_iam_custom_role" "function" {
  for_each = local.own_roles

  project     = var.project
  role_id     = replace(each.value.id, "/^snapkeep/", var.role_prefix)
  title       = "Snapkeep ${each.key}: documents"
  description = "Made from infra/functions.yaml and infra/permissions.yaml."
  permissions = each.value.permissions

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "function" {
  for_each = local.own_roles

  project = var.project
  role    = google_project_iam_custom_role.function[each.key].id
  member  = google_service_account.function[each.key].member

  # Of Firestore's resources IAM knows databases, not collections: this one, and no other of the project.
  condition {
    title       = "Snapkeep's own database"
    description = "What else the project keeps in Firestore is none of its business."
    expression  = "resource.name == \"projects/${var.project}/databases/${var.database}\""
  }
}

# --- messages -------------------------------------------------------------------------------------------------------

resource "google_project_iam_custom_role" "publisher" {
  project     = var.project
  role_id     = "${var.role_prefix}.publisher"
  title       = "Snapkeep: publish"
  description = "Bound to single topics alone. Made from infra/permissions.yaml."
  permissions = module.catalogue.publishing

  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = local.publishing

  project = var.project
  topic   = google_pubsub_topic.topic[each.value.topic].name
  role    = google_project_iam_custom_role.publisher.id
  member  = google_service_account.function[each.value.function].member
}
