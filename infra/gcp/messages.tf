# A topic and a push subscription for each function, and what happens to what cannot be delivered.

locals {
  subscription = module.catalogue.subscription
  retention    = "${local.subscription.retention_days * 24 * 3600}s"
  # All but the last resort: what dies there has nowhere to go, and is kept for `retention_days`.
  dying = { for function, one in local.delivered : function => one if one.topic != local.subscription.dead_letter_topic }
}

resource "google_pubsub_topic" "topic" {
  # checkov:skip=CKV_GCP_83: Messages name tenants and points and hold no data of theirs; Google's own encryption is enough for them.
  for_each = module.catalogue.topics

  project = var.project
  name    = each.value
  labels  = local.labels
  # Who subscribes to the events later can still read those of the last days; what functions tell each other may be
  # lost, the ticks make up for it.
  message_retention_duration = contains(module.catalogue.topics_out, each.value) ? local.retention : null

  # Messages stay in the region that the functions are in.
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "delivery" {
  for_each = local.delivered

  project                    = var.project
  name                       = each.value.topic
  topic                      = google_pubsub_topic.topic[each.value.topic].id
  labels                     = local.labels
  ack_deadline_seconds       = local.subscription.ack_deadline_s
  message_retention_duration = local.retention

  push_config {
    # The function learns its topic from the path.
    push_endpoint = "${google_cloudfunctions2_function.function[each.key].service_config[0].uri}/${google_pubsub_topic.topic[each.value.topic].id}"

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "${local.subscription.retry_min_s}s"
    maximum_backoff = "${local.subscription.retry_max_s}s"
  }

  dynamic "dead_letter_policy" {
    for_each = contains(keys(local.dying), each.key) ? [local.subscription] : []
    content {
      dead_letter_topic     = google_pubsub_topic.topic[dead_letter_policy.value.dead_letter_topic].id
      max_delivery_attempts = dead_letter_policy.value.max_delivery_attempts
    }
  }

  # Without this a subscription that has nothing to deliver for 31 days is deleted.
  expiration_policy {
    ttl = ""
  }

  depends_on = [google_cloud_run_v2_service_iam_binding.delivery]
}

# Events are kept until somebody reads them, for as long as Pub/Sub keeps anything (31 days).
resource "google_pubsub_subscription" "out" {
  for_each = module.catalogue.topics_out

  project                    = var.project
  name                       = each.value
  topic                      = google_pubsub_topic.topic[each.value].id
  labels                     = local.labels
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# --- what Pub/Sub's own service agent has to be allowed -----------------------------------------------------------

# To put what could not be delivered among the dead letters ...
resource "google_pubsub_topic_iam_member" "dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.topic[local.subscription.dead_letter_topic].name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

# ... and to take it off the subscription that it died on.
resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each = local.dying

  project      = var.project
  subscription = google_pubsub_subscription.delivery[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# To show the functions that it is Pub/Sub that calls: identity tokens of the one identity, nothing else.
resource "google_service_account_iam_member" "push" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent
}
