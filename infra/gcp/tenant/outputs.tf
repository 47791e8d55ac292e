output "roles" {
  description = "The custom roles that were made, by project and role: function, place, condition and permissions."
  value       = { for key, role in local.roles : key => { for name in ["function", "place", "condition", "permissions"] : name => role[name] } }
}

output "fleet" {
  description = "What of this belongs into the tenant's entry of the fleet file."
  value = merge(
    { project = var.project, vault_project = local.vault_project },
    length(var.kms_keys) == 0 ? {} : { kms_keys = var.kms_keys },
    var.restore_test == null ? {} : {
      restore_test = {
        network     = google_compute_network.isolated[0].id
        subnetworks = { for region, one in google_compute_subnetwork.isolated : region => one.id }
      }
    },
  )
}

output "consistency_groups" {
  description = "The links of the consistency groups, by name."
  value       = { for name, group in google_compute_resource_policy.group : name => group.id }
}
