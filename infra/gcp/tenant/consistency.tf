# Disks that are to be held at one moment: Compute Engine takes a group as a whole. A disk is in one group at most.
resource "google_compute_resource_policy" "group" {
  for_each = var.consistency_groups

  project     = var.project
  name        = each.key
  region      = each.value.region
  description = "Disks whose recovery points are of one moment."

  disk_consistency_group_policy {
    enabled = true
  }

  depends_on = [google_project_service.compute]
}

locals {
  grouped = {
    for one in flatten([
      for name, group in var.consistency_groups : [for disk in group.disks : { group = name, disk = disk, part = split("/", disk) }]
    ]) : "${one.group}/${one.disk}" => one
  }
}

resource "google_compute_disk_resource_policy_attachment" "member" {
  for_each = { for key, one in local.grouped : key => one if one.part[0] == "zones" }

  project = var.project
  name    = google_compute_resource_policy.group[each.value.group].name
  zone    = each.value.part[1]
  disk    = each.value.part[3]
}

resource "google_compute_region_disk_resource_policy_attachment" "member" {
  for_each = { for key, one in local.grouped : key => one if one.part[0] == "regions" }

  project = var.project
  name    = google_compute_resource_policy.group[each.value.group].name
  region  = each.value.part[1]
  disk    = each.value.part[3]
}
