# infra/functions.yaml and infra/firestore.yaml as values. No provider and no input: Terraform evaluates it anywhere.
terraform {
  required_version = ">= 1.9"
}

locals {
  deployment = yamldecode(file("${path.module}/../../functions.yaml"))
}

output "functions" {
  description = "Every function by its name, as infra/functions.yaml has it."
  value       = local.deployment.functions
}

output "subscription" {
  description = "How every push subscription delivers."
  value       = local.deployment.subscription
}

output "topics" {
  description = "Every topic there is: of functions, and those that others read."
  value = toset(concat(
    [for one in values(local.deployment.functions) : one.topic if one.topic != null],
    local.deployment.topics_out,
  ))
}

output "topics_out" {
  description = "Topics that no function of ours reads."
  value       = toset(local.deployment.topics_out)
}

output "indexes" {
  description = "The indexes of Firestore, as infra/firestore.yaml has them."
  value       = yamldecode(file("${path.module}/../../firestore.yaml"))
}
