# Every function of infra/functions.yaml: one archive, one service account each (identities.tf), no key, no public way in.

locals {
  runtime = "python311" # what the tests run on

  environment = {
    SNAPKEEP_PROJECT  = var.project
    SNAPKEEP_DATABASE = google_firestore_database.documents.name
  }

  # Whom Identity-Aware Proxy's signed header must be meant for; without a door `web` answers nobody.
  door_environment = var.domain == null ? {} : {
    SNAPKEEP_IAP_AUDIENCE = "/projects/${local.number}/global/backendServices/${google_compute_backend_service.door[0].generated_id}"
  }

  # The one function that asks a restored application whether it answers.
  probing = var.network == null ? toset([]) : toset(["restore"])
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions

  project  = var.project
  name     = local.names[each.key]
  location = var.region
  labels   = local.labels

  build_config {
    runtime           = local.runtime
    entry_point       = each.value.entry_point
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.build.id

    source {
      storage_source {
        bucket = local.bucket
        object = var.release
      }
    }
  }

  service_config {
    service_account_email = google_service_account.function[each.key].email
    environment_variables = merge(local.environment, contains(keys(local.answering), each.key) ? local.door_environment : {})
    available_memory      = "${each.value.memory_mb}Mi"
    timeout_seconds       = each.value.timeout_s
    max_instance_count    = each.value.max_instances
    # A delivery has its instance to itself; pages are many and short, and need a whole processor for more than one.
    available_cpu                    = contains(keys(local.answering), each.key) ? "1" : null
    max_instance_request_concurrency = contains(keys(local.answering), each.key) ? 8 : 1

    # Pub/Sub's push from this project counts as internal at the run.app address, which is the one that is pushed to
    # (https://cloud.google.com/run/docs/securing/ingress). The door comes through its load balancer.
    ingress_settings = (
      contains(keys(local.answering), each.key) && var.domain != null ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_INTERNAL_ONLY"
    )
    all_traffic_on_latest_revision = true

    # Only private addresses go through the network: everything else needs no way of ours.
    vpc_connector                 = contains(local.probing, each.key) ? google_vpc_access_connector.probe[0].id : null
    vpc_connector_egress_settings = contains(local.probing, each.key) ? "PRIVATE_RANGES_ONLY" : null
  }

  depends_on = [
    google_project_service.api,
    google_artifact_registry_repository_iam_member.build,
    google_project_iam_member.build_logs,
    google_project_iam_member.build_reads,
    # What a release asks for is there before it runs: its rights, and the indexes of its queries.
    google_project_iam_member.function,
    google_pubsub_topic_iam_member.publisher,
    google_firestore_index.composite,
    google_firestore_field.field,
  ]
}

# Who may call: Pub/Sub with one identity, Identity-Aware Proxy for people. A binding, so that it is these alone.
resource "google_cloud_run_v2_service_iam_binding" "delivery" {
  for_each = local.delivered

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  members  = ["serviceAccount:${google_service_account.push.email}"]
}

resource "google_cloud_run_v2_service_iam_binding" "door" {
  for_each = var.domain == null ? {} : local.answering

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  members  = [local.iap_agent]
}

# --- what the archive is built with -------------------------------------------------------------------------------

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: The images hold the functions' code and no data; Google's own encryption is enough for them.
  project       = var.project
  location      = var.region
  repository_id = "snapkeep"
  description   = "Snapkeep's functions as images, built from the releases in gs://${local.bucket}/releases"
  format        = "DOCKER"
  labels        = local.labels

  # A roll-back builds anew from its release, so old images are only kept for a while.
  cleanup_policies {
    id     = "newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "old"
    action = "DELETE"
    condition {
      older_than = "2592000s" # 30 days
    }
  }

  depends_on = [google_project_service.api]
}

# Cloud Build's default identity may do far more than read an archive and write an image.
resource "google_service_account" "build" {
  project      = var.project
  account_id   = "sk-build"
  display_name = "Snapkeep: builds the functions"

  depends_on = [google_project_service.api]
}

resource "google_artifact_registry_repository_iam_member" "build" {
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_project_iam_member" "build_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

# Cloud Functions copies an archive into a bucket of its own and builds from there.
resource "google_project_iam_member" "build_reads" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title       = "sources_of_functions"
    description = "The releases, and the copies of them that Cloud Functions builds from"
    expression = join(" || ", [
      "resource.name.startsWith(\"projects/_/buckets/${local.bucket}/objects/releases/\")",
      "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${local.number}-${var.region}\")",
    ])
  }
}

# --- the way to restored instances --------------------------------------------------------------------------------

# Direct VPC egress would need no connector, but functions can be given it by newer providers than 6.50 only.
resource "google_vpc_access_connector" "probe" {
  count = var.network == null ? 0 : 1

  project       = var.project
  name          = "snapkeep-probe"
  region        = var.region
  machine_type  = "e2-micro"
  min_instances = 2 # the fewest there can be
  max_instances = 3

  subnet {
    name       = element(split("/", var.network.subnetwork), 5)
    project_id = element(split("/", var.network.subnetwork), 1)
  }

  lifecycle {
    precondition {
      condition     = element(split("/", var.network.subnetwork), 3) == var.region
      error_message = "network: the subnetwork has to be in ${var.region}, as the functions are; it is ${var.network.subnetwork}."
    }
  }

  depends_on = [google_project_service.api]
}
