# Snapkeep with nothing around it: no door for people, nobody who is told of alerts, no tenant. `make deploy` runs this
# unless ROOT names another root; a copy of it, with more of the module's variables, is the usual way on.
terraform {
  required_version = ">= 1.9"

  # The bucket is given by make deploy: -backend-config="bucket=PROJECT-snapkeep" -backend-config="prefix=state"
  backend "gcs" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

variable "project" {
  description = "Id of the project that Snapkeep has to itself."
  type        = string
}

variable "region" {
  description = "Where it runs and keeps its documents."
  type        = string
}

variable "release" {
  description = "The archive in the project's bucket that is deployed."
  type        = string
}

variable "people" {
  description = "Who may do what: email address to viewer, operator, admin or auditor."
  type        = map(string)
  default     = {}
}

module "snapkeep" {
  source = "../.."

  project = var.project
  region  = var.region
  release = var.release
  people  = var.people
}

output "snapkeep" {
  description = "What others need to know of it: `snapkeep doctor`, and the module tenant."
  value       = module.snapkeep
}
