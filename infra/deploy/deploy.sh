#!/usr/bin/env bash
# From this tree to a running deployment: package, upload, apply. With RELEASE, that release runs on this tree's
# Terraform: it is uploaded from here if this tree builds it, and has to be in the bucket otherwise. Asked for again it
# changes nothing; ended half way it is asked for again.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_all
decide_approval
need_bucket

before=$(deployed)
archive=$(build)
built=${archive##*/}
release=$(named "${RELEASE:-$built}")
if [[ $release == "$built" ]]; then
    # No-clobber: the name carries the hash of the bytes, so what is there is the same, and stays as it was audited.
    gcloud storage cp --no-clobber "$archive" "gs://$bucket/releases/$release"
elif ! exists "gs://$bucket/releases/$release"; then
    die "gs://$bucket/releases/$release does not exist, and this tree builds $built:" \
        "  check out the commit that builds $release, or choose one that make releases lists"
fi
terraform_init
if ! terraform_run apply "$release"; then
    # Google takes minutes until an account that was just made may do what it was granted, and a first deployment uses
    # all of them at once.
    [[ -z $before ]] || die "$release is not deployed: Terraform says above what it was refused"
    echo "Once more: on a first deployment Google is at times not done with the accounts when they are used" >&2
    terraform_run apply "$release"
fi
echo "$release is deployed in $PROJECT"
