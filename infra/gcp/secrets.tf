# Snapkeep has one secret, and only where Identity-Aware Proxy is given an OAuth client of your own (variable iap_oauth).
# Its value is put into Secret Manager by whoever made the client and never passes through a variable. The load balancer
# has to be told it, so it is in Terraform's state, which whoever may read the
# project's buckets reads too: give nobody who is not to deploy a basic role (roles/viewer and the like) there.
data "google_secret_manager_secret_version" "iap_oauth" {
  count = var.domain == null || var.iap_oauth == null ? 0 : 1

  project = var.project
  secret  = var.iap_oauth.secret
}
