# What all files of this module share. What is deployed stands in infra/functions.yaml, infra/permissions.yaml and
# infra/firestore.yaml alone: everything here is made from these, so that no list is written twice.
module "catalogue" {
  source = "./catalogue"
}

data "google_project" "own" {
  project_id = var.project
}

locals {
  labels = merge(var.labels, { app = "snapkeep" })
  bucket = coalesce(var.bucket, "${var.project}-snapkeep")
  number = data.google_project.own.number

  functions = module.catalogue.functions
  # What each function is called in Google Cloud: no underscore is allowed there.
  names = { for function in keys(local.functions) : function => "snapkeep-${replace(function, "_", "-")}" }
  # Those with a topic are delivered to by Pub/Sub; the others answer HTTP.
  delivered = { for function, one in local.functions : function => one if one.topic != null }
  scheduled = { for function, one in local.functions : function => one if one.schedule != null }
  answering = { for function, one in local.functions : function => one if one.topic == null }

  pubsub_agent = "serviceAccount:service-${local.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  iap_agent    = "serviceAccount:service-${local.number}@gcp-sa-iap.iam.gserviceaccount.com"
}
