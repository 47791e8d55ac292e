# Where restore tests run: nothing gets in, nothing gets out. Function restore reads the firewall rules before each test,
# and tests nothing if one allows anything, or if none denies all traffic out.
locals {
  ranges = var.restore_test == null ? {} : var.restore_test.ranges
}

resource "google_compute_network" "isolated" {
  count = var.restore_test == null ? 0 : 1

  project                         = var.project
  name                            = var.restore_test.name
  description                     = "Snapkeep's restore tests: isolated. A rule that allows anything stops them."
  auto_create_subnetworks         = false
  delete_default_routes_on_create = true # not even a route leads out

  depends_on = [google_project_service.compute]
}

resource "google_compute_subnetwork" "isolated" {
  #checkov:skip=CKV_GCP_74:Private Google Access would be a way out
  #checkov:skip=CKV_GCP_26:no packet gets anywhere that a flow log could tell of
  #checkov:skip=CKV_GCP_76:there is no IPv6 in this network
  for_each = local.ranges

  project                  = var.project
  name                     = "${var.restore_test.name}-${each.key}"
  region                   = each.key
  network                  = google_compute_network.isolated[0].id
  ip_cidr_range            = each.value
  private_ip_google_access = false
  stack_type               = "IPV4_ONLY"
}

resource "google_compute_firewall" "isolated" {
  for_each = var.restore_test == null ? {} : { INGRESS = "in", EGRESS = "out" }

  project            = var.project
  name               = "${var.restore_test.name}-nothing-${each.value}"
  description        = "Nothing gets ${each.value}: Snapkeep's restore tests need it so."
  network            = google_compute_network.isolated[0].id
  direction          = each.key
  priority           = 0
  source_ranges      = each.key == "INGRESS" ? ["0.0.0.0/0"] : null
  destination_ranges = each.key == "EGRESS" ? ["0.0.0.0/0"] : null

  deny {
    protocol = "all"
  }
}

# Restore tests are connected to these subnetworks, whatever `subnetworks` names.
resource "google_compute_subnetwork_iam_member" "isolated" {
  for_each = local.ranges

  project    = var.project
  region     = google_compute_subnetwork.isolated[each.key].region
  subnetwork = google_compute_subnetwork.isolated[each.key].name
  role       = google_project_iam_custom_role.role["${var.project}/${local.subnetwork_role.id}"].id
  member     = local.members[local.subnetwork_role.function]
}
