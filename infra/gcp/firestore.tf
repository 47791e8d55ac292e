# The documents: everything that Snapkeep knows. Lost, the snapshots are still there, and say by their labels whose they are.
resource "google_firestore_database" "documents" {
  project     = var.project
  name        = var.database
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED" # any minute of the last 7 days
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  # Protected, make destroy leaves it where it is.
  deletion_policy = var.deletion_protection ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.api]
}

resource "google_firestore_backup_schedule" "daily" {
  project   = var.project
  database  = google_firestore_database.documents.name
  retention = "1209600s" # 14 days: twice what point-in-time recovery reaches back

  daily_recurrence {}
}

# --- indexes: infra/firestore.yaml, made from the queries ---------------------------------------------------------

resource "google_firestore_index" "composite" {
  for_each = {
    for index in module.catalogue.indexes.composites :
    join(" ", concat([index.scope, index.collection], [for field in index.fields : "${field.name}:${field.order}"])) => index
  }

  project     = var.project
  database    = google_firestore_database.documents.name
  collection  = each.value.collection
  query_scope = each.value.scope

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.name
      order      = fields.value.order
    }
  }
}

resource "google_firestore_field" "field" {
  for_each = { for field in module.catalogue.indexes.fields : "${field.collection}.${field.field}" => field }

  project    = var.project
  database   = google_firestore_database.documents.name
  collection = each.value.collection
  field      = each.value.field

  # Instead of what the field inherits; empty: it is in no index by itself.
  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        order       = indexes.value.order
        query_scope = indexes.value.scope
      }
    }
  }

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []
    content {}
  }
}

# --- the first people ---------------------------------------------------------------------------------------------

# A role that changes here is written anew; what has been changed in the database since is otherwise left alone.
resource "terraform_data" "role" {
  for_each = var.people

  input = each.value
}

resource "google_firestore_document" "principal" {
  for_each = var.people

  project     = var.project
  database    = google_firestore_database.documents.name
  collection  = "principals"
  document_id = each.key
  fields = jsonencode({
    schema     = { integerValue = "1" }
    updated_at = { timestampValue = plantimestamp() }
    role       = { stringValue = each.value }
    tenant     = { nullValue = null }
  })

  lifecycle {
    ignore_changes       = [fields]
    replace_triggered_by = [terraform_data.role[each.key]]
  }
}
