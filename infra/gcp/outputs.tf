output "web_address" {
  description = "Where people find the pages; null without a domain."
  value       = var.domain == null ? null : "https://${var.domain}/"
}

output "address" {
  description = "What the domain's A record has to say; null without a domain."
  value       = one(google_compute_global_address.door[*].address)
}

output "iap_audience" {
  description = "Whom the tokens of Identity-Aware Proxy are meant for; null without a domain."
  value       = try(local.door_environment.SNAPKEEP_IAP_AUDIENCE, null)
}

output "functions" {
  description = "Every function: its name in Google Cloud, its address, and the account it works as."
  value = {
    for function, one in google_cloudfunctions2_function.function : function => {
      name            = one.name
      uri             = one.service_config[0].uri
      service_account = google_service_account.function[function].email
    }
  }
}

output "service_accounts" {
  description = "The functions' service accounts, by function: what a tenant's project grants its roles to (module tenant)."
  value       = { for function, account in google_service_account.function : function => account.email }
}

output "topics" {
  description = "Every topic's full name, by its short one."
  value       = { for name, topic in google_pubsub_topic.topic : name => topic.id }
}

output "events_subscription" {
  description = "Where the events wait for whoever reads them."
  value       = { for name, one in google_pubsub_subscription.out : name => one.id }
}

output "project" {
  description = "Snapkeep's own project."
  value       = var.project

  # Whoever builds on it (monitored_by of module tenant) does so when its APIs are on.
  depends_on = [google_project_service.api]
}

output "region" {
  description = "The functions' region."
  value       = var.region
}

output "database" {
  description = "The Firestore database."
  value       = google_firestore_database.documents.name
}

output "release" {
  description = "What is deployed."
  value       = var.release
}
