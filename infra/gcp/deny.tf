# What nobody may do here, whatever roles he has, owners included: a deny policy goes before every role. Its conditions
# know tags alone, not names, so it is for all snapshots of the project. Snapshot schedules of Compute Engine delete
# their own snapshots by another way, which it does not stop. tenant/ has the same for a vault project of its own.
resource "google_iam_deny_policy" "deletions" {
  count = var.deny_deletions ? 1 : 0

  parent       = urlencode("cloudresourcemanager.googleapis.com/projects/${var.project}")
  name         = "snapkeep-deletions"
  display_name = "Snapkeep: recovery points and keys"

  rules {
    description = "Snapshots are deleted by function expire alone, which asks the retention rules first."

    deny_rule {
      denied_principals    = ["principalSet://goog/public:all"]
      exception_principals = ["principal://iam.googleapis.com/projects/-/serviceAccounts/${google_service_account.function["expire"].email}"]
      denied_permissions   = ["compute.googleapis.com/snapshots.delete"]
    }
  }

  rules {
    description = "Nobody makes a key of a service account: what has none cannot lose one."

    deny_rule {
      denied_principals  = ["principalSet://goog/public:all"]
      denied_permissions = ["iam.googleapis.com/serviceAccountKeys.create"]
    }
  }

  depends_on = [google_project_service.api]
}
