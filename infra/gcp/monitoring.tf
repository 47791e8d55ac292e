# Who is told what, when something goes wrong, and the dashboard. All of it is made from infra/monitoring.yaml. Alerts on
# silence are evaluated by Cloud Monitoring itself: they also hold where Cloud Scheduler, Pub/Sub or every function is
# dead. What notices that Monitoring or this whole project is gone stands in docs/runbook.md, "Who notices". Projects of
# tenants and vaults are seen here where infra/gcp/tenant was given `monitored_by`.
module "watched" {
  source = "./watched"

  functions         = { for name, one in local.functions : name => { schedule = one.schedule } }
  names             = local.names
  project           = var.project
  quota_alert_ratio = var.quota_alert_ratio
}

locals {
  # The heading's anchor as Markdown renderers make it: small letters, no punctuation, hyphens for spaces.
  anchors = { for name, alert in module.watched.alerts : name => replace(replace(lower(alert.runbook), "/[^a-z0-9_ -]/", ""), " ", "-") }

  told = concat(
    sort(tolist(var.notification_channels)),
    [for email in sort(tolist(var.alert_emails)) : google_monitoring_notification_channel.email[email].id],
  )
}

check "somebody_is_told" {
  assert {
    condition     = length(var.notification_channels) + length(var.alert_emails) > 0
    error_message = "notification_channels, alert_emails: both are empty, so that alerts are raised and nobody is told; expected at least one."
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  project      = var.project
  display_name = "Snapkeep: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "log" {
  for_each = module.watched.metrics

  project         = var.project
  name            = "snapkeep/${each.key}"
  description     = each.value.says
  filter          = each.value.filter
  value_extractor = each.value.value == null ? null : "EXTRACT(jsonPayload.${each.value.value})"
  label_extractors = {
    for label in each.value.labels : label => "EXTRACT(jsonPayload.${label})"
  }

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = each.value.value == null ? "INT64" : "DISTRIBUTION"
    unit         = "1"
    display_name = "Snapkeep: ${each.value.says}"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  # Numbers are read as means, which the buckets do not change; they only have to hold them.
  dynamic "bucket_options" {
    for_each = each.value.value == null ? [] : [each.value.scale]
    content {
      exponential_buckets {
        num_finite_buckets = 40
        growth_factor      = 2
        scale              = bucket_options.value
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = module.watched.alerts

  project               = var.project
  display_name          = "Snapkeep: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.told
  user_labels           = merge(local.labels, { alert = each.key })

  conditions {
    display_name = each.value.title

    dynamic "condition_prometheus_query_language" {
      for_each = each.value.query == null ? [] : [each.value.query]
      content {
        query               = condition_prometheus_query_language.value
        duration            = "${each.value.for_s}s"
        evaluation_interval = "60s"
        # A metric that nothing was counted of yet is not known to Monitoring: the alert is to be there before.
        disable_metric_validation = true
      }
    }

    dynamic "condition_matched_log" {
      for_each = each.value.log == null ? [] : [each.value.log]
      content {
        filter = condition_matched_log.value
        label_extractors = {
          who  = "EXTRACT(protoPayload.authenticationInfo.principalEmail)"
          what = "EXTRACT(protoPayload.methodName)"
        }
      }
    }
  }

  alert_strategy {
    # Without data for a day an incident ends: what is still wrong raises the next.
    auto_close = "86400s"

    # What must not wait is told of again every four hours, as long as it lasts.
    dynamic "notification_channel_strategy" {
      for_each = each.value.severity == "CRITICAL" && length(local.told) > 0 ? ["14400s"] : []
      content {
        notification_channel_names = local.told
        renotify_interval          = notification_channel_strategy.value
      }
    }

    # Google allows it for alerts on log entries alone, and demands it there.
    dynamic "notification_rate_limit" {
      for_each = each.value.log == null ? [] : ["3600s"]
      content {
        period = notification_rate_limit.value
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Snapkeep: ${each.value.title}"
    content   = <<-EOT
      ${each.value.means}

      First: `${each.value.first}`

      Then: docs/runbook.md, "${each.value.runbook}" (#${local.anchors[each.key]}).
    EOT

    dynamic "links" {
      for_each = var.runbook_url == null ? [] : [var.runbook_url]
      content {
        display_name = "Runbook"
        url          = "${links.value}#${local.anchors[each.key]}"
      }
    }
  }

  depends_on = [google_logging_metric.log]
}

# Every write to the database that is not of one of Snapkeep's functions is logged: theirs are in the audit chains, and
# would cost more than all else. Authoritative for this service in this project.
resource "google_project_iam_audit_config" "documents" {
  project = var.project
  service = "datastore.googleapis.com" # of Firestore's API too

  audit_log_config {
    log_type         = "DATA_WRITE"
    exempted_members = [for account in google_service_account.function : account.member]
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_dashboard" "fleet" {
  project        = var.project
  dashboard_json = jsonencode(module.watched.dashboard)

  depends_on = [google_logging_metric.log]
}
