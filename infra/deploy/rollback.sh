#!/usr/bin/env bash
# An older release on this tree's Terraform. Documents are not rolled back: a release reads what a newer one wrote.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

[[ -n ${RELEASE:-} ]] || die "RELEASE is not set: expected the release to go back to, as in RELEASE=functions-0123456789ab.zip; make releases lists them"
need_project
need_region
need_gcloud
decide_approval
need_bucket
release=$(named "$RELEASE")
exists "gs://$bucket/releases/$release" ||
    die "gs://$bucket/releases/$release does not exist: choose one that make releases lists"
RELEASE=$release exec infra/deploy/deploy.sh
