#!/usr/bin/env bash
# Once for a project: the APIs that Terraform itself calls (it enables the others), the accounts that Google acts as, and
# the bucket for Terraform's state and for releases. Asked for again it changes nothing; ended half way it is asked for again.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_project
need_region
need_gcloud

# Google makes the accounts of these when it first needs them. Terraform grants them roles before that, and what is granted
# to an account that does not exist is refused; its resource that makes them is in the beta provider alone.
agents=(cloudscheduler.googleapis.com iap.googleapis.com pubsub.googleapis.com)

gcloud services enable cloudresourcemanager.googleapis.com iam.googleapis.com serviceusage.googleapis.com \
    storage.googleapis.com "${agents[@]}" "--project=$PROJECT"
for service in "${agents[@]}"; do
    gcloud beta services identity create "--service=$service" "--project=$PROJECT" --quiet
done
owns_bucket ||
    gcloud storage buckets create "gs://$bucket" "--project=$PROJECT" "--location=$REGION" \
        --uniform-bucket-level-access --public-access-prevention
# Said again of a bucket that is there: it may be one that was made half way. Versions: a state that was overwritten in
# error can be had back.
gcloud storage buckets update "gs://$bucket" --versioning --uniform-bucket-level-access --public-access-prevention
echo "gs://$bucket is ready: make deploy PROJECT=$PROJECT REGION=$REGION"
