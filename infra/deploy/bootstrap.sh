#!/usr/bin/env bash
# Once for a project: the APIs that Terraform itself calls (it enables the others), and the bucket for its state and for
# releases. Asked for again it changes nothing; ended half way it is asked for again.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_project
need_region
need_gcloud

gcloud services enable cloudresourcemanager.googleapis.com iam.googleapis.com serviceusage.googleapis.com \
    storage.googleapis.com "--project=$PROJECT"
exists buckets "gs://$bucket" ||
    gcloud storage buckets create "gs://$bucket" "--project=$PROJECT" "--location=$REGION" \
        --uniform-bucket-level-access --public-access-prevention
# Said again of a bucket that is there: it may be one that was made half way. Versions: a state that was overwritten in
# error can be had back.
gcloud storage buckets update "gs://$bucket" --versioning --uniform-bucket-level-access --public-access-prevention
echo "gs://$bucket is ready: make deploy PROJECT=$PROJECT REGION=$REGION"
