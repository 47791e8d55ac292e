#!/usr/bin/env bash
# The release that staging runs, asked for in production: starts production's trigger on the same commit, where it waits
# for an approval. Production builds its release from that commit and refuses one of another name, so what was tested and
# what is deployed are the same bytes without a right of one project in the other's bucket.
#
#   PROJECT, REGION   staging: the release there has to be the one that COMMIT builds
#   PRODUCTION        production's project              TRIGGER_REGION   where its trigger is (REGION)
#   COMMIT            what staging was deployed from (what is checked out)
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_project
need_region
[[ -n ${PRODUCTION:-} ]] || die "PRODUCTION is not set: expected production's project, as in PRODUCTION=acme-snapkeep"
[[ $PRODUCTION != "$PROJECT" ]] || die "PRODUCTION: '$PRODUCTION' is PROJECT, staging: expected another one"
commit=${COMMIT:-$(git rev-parse HEAD)} || die "COMMIT is not set, and this is no checkout: expected what staging was deployed from"
[[ $commit =~ ^[0-9a-f]{40}$ ]] || die "COMMIT: '$commit' is not the 40 digits of a commit"
need_gcloud

archive=$(build)
release=${archive##*/}
running=$(deployed)
[[ $running == "$release" ]] ||
    die "staging ($PROJECT) runs ${running:-no release}, and this tree builds $release: deploy it there and test it first"
gcloud builds triggers run snapkeep-production "--project=$PRODUCTION" "--region=${TRIGGER_REGION:-$REGION}" \
    "--sha=$commit" "--substitutions=_RELEASE=$release"
echo "$release waits for an approval in $PRODUCTION: https://console.cloud.google.com/cloud-build/builds?project=$PRODUCTION"
