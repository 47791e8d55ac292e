# Who deletes snapshots here, told to Snapkeep's own project: its alert `snapshots-deleted` (infra/monitoring.yaml) sees
# this metric through its metrics scope, which the project joins by `monitored_by`.
resource "google_logging_metric" "snapshots_deleted" {
  count = var.grants_vault ? 1 : 0

  project     = local.vault_project
  name        = "snapkeep/snapshots_deleted"
  description = "Snapshots that were asked to go by somebody who is not Snapkeep's function expire."
  # The Admin Activity log, which nobody can switch off.
  filter = join(" AND ", [
    "resource.type=\"gce_snapshot\"",
    "logName=\"projects/${local.vault_project}/logs/cloudaudit.googleapis.com%2Factivity\"",
    "protoPayload.methodName=~\"compute.snapshots.delete$\"",
    "operation.first=true", # a deletion is logged when it begins and when it ends
    "NOT protoPayload.authenticationInfo.principalEmail=\"${var.service_accounts["expire"]}\"",
  ])
  label_extractors = { principal = "EXTRACT(protoPayload.authenticationInfo.principalEmail)" }

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Snapkeep: snapshots deleted by others"

    labels {
      key        = "principal"
      value_type = "STRING"
    }
  }
}
