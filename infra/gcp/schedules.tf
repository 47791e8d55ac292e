# The ticks: they alone bring every recorded piece of work to its end, whatever messages are lost.
resource "google_cloud_scheduler_job" "tick" {
  for_each = local.scheduled

  project     = var.project
  name        = local.names[each.key]
  region      = var.region
  description = "Ticks Snapkeep's function ${each.key}"
  schedule    = each.value.schedule
  time_zone   = "Etc/UTC"

  pubsub_target {
    topic_name = google_pubsub_topic.topic[each.value.topic].id
    data       = base64encode(jsonencode({ schema = 1, type = "tick" }))
  }

  # A tick that Pub/Sub does not take is tried again within the minute; the next one follows in any case.
  retry_config {
    retry_count          = 3
    min_backoff_duration = "5s"
    max_backoff_duration = "20s"
    max_doublings        = 2
  }
}
