# infra/monitoring.yaml as filters, queries and a dashboard: values alone. No provider: Terraform evaluates it anywhere,
# and so do the tests, which hand it real log lines.
terraform {
  required_version = ">= 1.9"
}

variable "functions" {
  description = "Every function by its name, as infra/functions.yaml has it."
  type        = map(object({ schedule = string }))
}

variable "names" {
  description = "What each function is called in Google Cloud."
  type        = map(string)
}

variable "project" {
  description = "Id of Snapkeep's own project."
  type        = string
}

variable "quota_alert_ratio" {
  description = "The part of a quota in use from which on an alert is raised."
  type        = number
}

locals {
  watched = yamldecode(file("${path.module}/../../monitoring.yaml"))

  services = join(" OR ", [for name in sort(values(var.names)) : "\"${name}\""])
  told     = distinct([for alert in values(local.watched.alerts) : alert.event if can(alert.event)])

  metrics = { for name, metric in local.watched.metrics : name => {
    filter = join(" AND ", concat(
      [
        "resource.type=\"cloud_run_revision\"",
        "resource.labels.service_name=(${local.services})",
        "jsonPayload.kind=\"${metric.line}\"",
      ],
      name == "alarms" ? ["jsonPayload.type=(${join(" OR ", [for type in local.told : "\"${type}\""])})"] : [],
    ))
    labels = try(metric.labels, [])
    value  = try(metric.value, null)
    scale  = try(metric.scale, null)
    says   = metric.says
  } }

  # One line a run holds the number, so that the mean of what was logged in a while is the number itself. In PromQL the
  # first slash of a metric's name is a colon and all else an underscore.
  series = { for name, metric in local.metrics : name => "logging_googleapis_com:user_snapkeep_${name}" }
  of_run = "monitored_resource=\"cloud_run_revision\""
  means = { for name, metric in local.metrics : name => join(" / ", [for part in ["sum", "count"] : join("", [
    "sum",
    length(metric.labels) == 0 ? "" : " by (${join(", ", metric.labels)}) ",
    "(increase(${local.series[name]}_${part}{${local.of_run}}[30m]))",
  ])]) if metric.value != null }

  table = { for name, alert in local.watched.alerts : name => {
    title = alert.title
    query = (
      can(alert.event) ? "sum by (tenant) (increase(${local.series.alarms}{${local.of_run},type=\"${alert.event}\"}[20m])) > 0" :
      can(alert.gauge) ? join("", [
        replace(local.means[alert.gauge], local.of_run, join(",", compact([local.of_run, try(alert.only, "")]))),
        " > ${alert.above}",
      ]) :
      can(alert.query) ? replace(alert.query, "QUOTA_ALERT_RATIO", tostring(var.quota_alert_ratio)) : null
    )
    log      = can(alert.log) ? replace(alert.log, "DEPLOYER", "sk-deploy@${var.project}.iam.gserviceaccount.com") : null
    for_s    = try(alert.for_s, 0)
    severity = alert.severity
    means    = alert.means
    first    = alert.first
    runbook  = alert.runbook
  } }

  # Of the cron forms that infra/functions.yaml uses: `* * * * *`, `*/N * * * *`, `M * * * *`.
  every_min = { for name, one in var.functions : name => (
    startswith(one.schedule, "* ") ? 1 : try(tonumber(regex("^\\*/([0-9]+) ", one.schedule)[0]), 60)
  ) if one.schedule != null }
  # Three ticks that did not come, what a delivery that fails is repeated within, and how late a metric of the log may be.
  silent_min = { for name, minutes in local.every_min : name => 3 * minutes + 20 }

  silent = { for name, minutes in local.silent_min : "silent-${replace(name, "_", "-")}" => {
    title    = "function ${name} is silent"
    query    = "(sum(increase(${local.series.ticks}{${local.of_run},function=\"${name}\"}[${minutes}m])) or vector(0)) < 0.5"
    log      = null
    for_s    = 0
    severity = "CRITICAL"
    means    = "for ${minutes} minutes function ${name} has carried out no tick; its schedule is ${var.functions[name].schedule}. Right after the first deployment it means that it has not begun yet."
    first    = "gcloud scheduler jobs describe ${var.names[name]} --location=$REGION --project=$SNAPKEEP_PROJECT"
    runbook  = "A function no longer ticks"
  } }

  tiles = [for tile in local.watched.dashboard : merge(
    try(tile.queries, {}),
    { for words, metric in try(tile.gauges, {}) : words => local.means[metric] },
  )]
}

output "metrics" {
  description = "Metrics made of the log, by name: the filter of the lines, the fields that are labels, the one that is the value."
  value       = local.metrics
}

output "alerts" {
  description = "Alerts by name: a query in PromQL, or a filter of log entries, and what to tell whoever is told."
  value       = merge(local.table, local.silent)
}

output "dashboard" {
  description = "The dashboard, as Cloud Monitoring's API takes it."
  value = {
    displayName = "Snapkeep"
    mosaicLayout = {
      columns = 12
      tiles = [for number, queries in local.tiles : {
        xPos   = number % 3 * 4
        yPos   = floor(number / 3) * 4
        width  = 4
        height = 4
        widget = {
          title = local.watched.dashboard[number].title
          xyChart = {
            dataSets = [for words in sort(keys(queries)) : {
              plotType       = "LINE"
              targetAxis     = "Y1"
              legendTemplate = length(queries) > 1 ? words : ""
              timeSeriesQuery = {
                prometheusQuery = queries[words]
                unitOverride    = try(local.watched.dashboard[number].unit, "1")
              }
            }]
            yAxis = { label = "", scale = "LINEAR" }
          }
        }
      }]
    }
  }
}
