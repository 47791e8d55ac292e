# What the tests of the stand-in provider plan and apply: each way in which schema, references and made-up values meet.
terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
  }
}

provider "google" {
  project = var.project
}

variable "project" {
  type = string
}

variable "topics" {
  type    = set(string)
  default = ["plan", "create"]
}

data "google_project" "own" {}

resource "google_service_account" "push" {
  account_id = "sk-push"
}

resource "google_pubsub_topic" "this" {
  for_each = var.topics

  name   = each.value
  labels = { number = data.google_project.own.number }
}

resource "google_cloudfunctions2_function" "this" {
  name     = "snapkeep-plan"
  location = "europe-west3"

  service_config {
    service_account_email = google_service_account.push.email
  }
}

resource "google_pubsub_subscription" "this" {
  for_each = google_pubsub_topic.this

  name  = each.key
  topic = each.value.id

  push_config {
    push_endpoint = "${google_cloudfunctions2_function.this.service_config[0].uri}/${each.value.id}"

    oidc_token {
      service_account_email = google_service_account.push.email
    }
  }

  retry_policy {
    minimum_backoff = "10s"
  }
}

output "project" {
  value = google_pubsub_topic.this["plan"].project
}
