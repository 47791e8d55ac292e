#!/usr/bin/env bash
# Every release that was uploaded, the newest last, with which is deployed and which passed its smoke test last.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_project
need_region
need_gcloud
need_bucket

running=$(deployed)
proven=
if exists "gs://$bucket/releases/proven"; then
    proven=$(gcloud storage cat "gs://$bucket/releases/proven" "--project=$PROJECT")
fi
listed=$(gcloud storage objects list "gs://$bucket/releases/functions-*.zip" "--project=$PROJECT" \
    --sort-by=creation_time '--format=value(creation_time,name)')
[[ -n $listed ]] || die "gs://$bucket/releases holds none: make deploy PROJECT=$PROJECT REGION=$REGION uploads one"
while read -r when name; do
    said=
    [[ ${name##*/} != "$running" ]] || said+=" deployed"
    [[ ${name##*/} != "$proven" ]] || said+=" proven"
    printf '%s  %s %s\n' "$when" "${name##*/}" "$said"
done <<<"$listed"
