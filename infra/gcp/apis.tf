locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com", # what the functions are built into
      "cloudbuild.googleapis.com",       # builds them
      "cloudfunctions.googleapis.com",
      "cloudresourcemanager.googleapis.com", # reads and binds roles
      "cloudscheduler.googleapis.com",
      "compute.googleapis.com", # snapshots, and the door's load balancer
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "storage.googleapis.com",
    ],
    var.domain == null ? [] : ["iap.googleapis.com"],
    var.iap_oauth == null ? [] : ["secretmanager.googleapis.com"],
    var.network == null ? [] : ["vpcaccess.googleapis.com"],
  ))
}

resource "google_project_service" "api" {
  for_each = local.apis

  project = var.project
  service = each.value
  # Going away must not switch off what others in the project may use.
  disable_on_destroy = false
}
