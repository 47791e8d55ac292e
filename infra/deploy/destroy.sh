#!/usr/bin/env bash
# Takes away what make deploy made. Says first what stays, because that is what a person has to know before.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_all

cat >&2 <<END
This takes Snapkeep's functions, topics, schedules, alerts and accounts out of $PROJECT. From then on nobody takes,
copies or deletes recovery points. It does not touch:
  - any snapshot, copy, disk or instance, in no project. They cost until somebody deletes them.
  - the documents, while deletion_protection is true (the default): the database stays, with all points and audit chains.
    Its indexes, its daily backup and the entries of \`people\` go, and come back with the next deployment.
    To let it go too: deletion_protection = false in $ROOT, make deploy, then make destroy.
  - what tenants' projects grant (infra/gcp/tenant): destroyed where it was applied.
  - gs://$bucket with Terraform's state and every release: gcloud storage rm --recursive gs://$bucket, last of all.
END
decide_approval
need_bucket

running=$(deployed)
terraform_init
# The root wants a release even to go away; which one is no matter once nothing is deployed.
terraform_run destroy "${running:-functions-000000000000.zip}"
echo "Snapkeep is gone from $PROJECT; gs://$bucket stays"
