# The way in for people: one address, TLS, Cloud Armor, Identity-Aware Proxy, function web. Without a domain there is none.

locals {
  door = var.domain == null ? 0 : 1
}

resource "google_compute_global_address" "door" {
  count = local.door

  project = var.project
  name    = "snapkeep-door"
  labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_compute_managed_ssl_certificate" "door" {
  count = local.door

  project = var.project
  # A certificate never changes its domain: another domain is another certificate, made before the old one goes.
  name = "snapkeep-door-${substr(sha256(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.api]
}

resource "google_compute_ssl_policy" "door" {
  count = local.door

  project         = var.project
  name            = "snapkeep-door"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.api]
}

resource "google_compute_region_network_endpoint_group" "door" {
  count = local.door

  project               = var.project
  name                  = "snapkeep-door"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    # By its name: the function itself has to know the backend service, whose id is the audience it verifies.
    service = local.names["web"]
  }

  depends_on = [google_project_service.api]
}

resource "google_compute_backend_service" "door" {
  count = local.door

  project               = var.project
  name                  = "snapkeep-door"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = one(google_compute_security_policy.door[*].id)

  backend {
    group = google_compute_region_network_endpoint_group.door[0].id
  }

  iap {
    enabled              = true
    oauth2_client_id     = try(var.iap_oauth.client_id, null)
    oauth2_client_secret = one(data.google_secret_manager_secret_version.iap_oauth[*].secret_data)
  }

  log_config {
    enable      = true
    sample_rate = 1.0
  }
}

resource "google_compute_security_policy" "door" {
  count = var.domain == null || var.door_requests_per_minute == null ? 0 : 1

  project     = var.project
  name        = "snapkeep-door"
  description = "Before Identity-Aware Proxy: known attacks are refused, and one address is slowed down"

  rule {
    description = "Log4Shell and the like, as Google keeps the list"
    priority    = 1000
    action      = "deny(403)"
    match {
      expr {
        expression = "evaluatePreconfiguredWaf('cve-canary')"
      }
    }
  }

  rule {
    description = "Everybody else, at a bounded pace"
    priority    = 2147483647 # the last rule, which every policy has
    action      = "throttle"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.door_requests_per_minute
        interval_sec = 60
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_iap_web_backend_service_iam_member" "door" {
  for_each = var.domain == null ? toset([]) : var.iap_members

  project             = var.project
  web_backend_service = google_compute_backend_service.door[0].name
  role                = "roles/iap.httpsResourceAccessor"
  member              = each.value
}

resource "google_compute_url_map" "door" {
  count = local.door

  project         = var.project
  name            = "snapkeep-door"
  default_service = google_compute_backend_service.door[0].id
}

resource "google_compute_target_https_proxy" "door" {
  count = local.door

  project          = var.project
  name             = "snapkeep-door"
  url_map          = google_compute_url_map.door[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.door[0].id]
  ssl_policy       = google_compute_ssl_policy.door[0].id
}

resource "google_compute_global_forwarding_rule" "door" {
  count = local.door

  project               = var.project
  name                  = "snapkeep-door"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.door[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.door[0].id
  labels                = local.labels
}

# Port 80 says where the door is, and nothing else.

resource "google_compute_url_map" "plain" {
  count = local.door

  project = var.project
  name    = "snapkeep-door-plain"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "MOVED_PERMANENTLY_DEFAULT"
    strip_query            = false
  }

  depends_on = [google_project_service.api]
}

resource "google_compute_target_http_proxy" "plain" {
  count = local.door

  project = var.project
  name    = "snapkeep-door-plain"
  url_map = google_compute_url_map.plain[0].id
}

resource "google_compute_global_forwarding_rule" "plain" {
  count = local.door

  project               = var.project
  name                  = "snapkeep-door-plain"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.door[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.plain[0].id
  labels                = local.labels
}
