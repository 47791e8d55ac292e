# Which function is granted what, in which kind of project: infra/permissions.yaml upon infra/functions.yaml.
# functions/snapkeep/permissions.py computes the same; a test compares the two.
locals {
  needs = yamldecode(file("${path.module}/../../permissions.yaml"))

  # What each function declares, as entries of permissions.yaml. Who declares what is not there stops every plan.
  entries = {
    for name, one in local.deployment.functions : name => concat(
      flatten([for change in one.compute.changes : local.needs.changes[change]]),
      flatten([for kind in one.compute.reads : local.needs.reads[kind]]),
      flatten([for access in one.documents : local.needs.documents[access]]),
      length(one.queries) > 0 ? local.needs.queries : [],
      length(one.publishes) > 0 ? local.needs.publishes : [],
    )
  }

  grants = flatten([
    for name, entries in local.entries : [
      for entry in entries : [
        for place in try(entry.at[name], entry.at.any, []) : {
          function   = name
          place      = place
          condition  = try(entry.condition, "")
          permission = entry.permission
        }
      ]
    ]
  ])

  held = { for one in local.grants : join(".", compact([one.function, one.place, one.condition])) => one... }
}

output "roles" {
  description = "Every custom role, by function, place and condition: what a function is granted in one kind of project."
  value = {
    for key, all in local.held : key => {
      function  = all[0].function
      place     = all[0].place
      condition = all[0].condition # a key of `conditions`, or ""
      id = all[0].place == "topic" ? "snapkeep.publisher" : join(".", compact([
        "snapkeep",
        all[0].function,
        contains(["snapkeep", "instances"], all[0].place) ? "" : all[0].place,
        all[0].condition,
      ]))
      permissions = sort(distinct([for one in all : one.permission]))
    }
  }
}

output "conditions" {
  description = "The IAM conditions that roles are bound with."
  value       = local.needs.conditions
}

output "publishing" {
  description = "The permissions of who publishes to a topic."
  value       = sort(distinct([for one in local.needs.publishes : one.permission]))
}
