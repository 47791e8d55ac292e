#!/usr/bin/env bash
# A release is deployed, asked whether it works, and taken back by itself where it does not: to the release that passed
# its smoke test last. Which one that is stands beside the releases, so that a run that ends half way forgets nothing.
# Exit status 0: the release runs and works. 1: it does not, and what runs now is said.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_all
decide_approval
need_bucket

[[ -n ${RELEASE:-} ]] || die "RELEASE is not set: expected the release that staging was tested with, as make promote says it"
release=$(named "$RELEASE")
before=
if exists "gs://$bucket/releases/proven"; then
    before=$(named "$(gcloud storage cat "gs://$bucket/releases/proven" "--project=$PROJECT")")
fi

if RELEASE=$release infra/deploy/deploy.sh && infra/deploy/smoke.sh; then
    printf '%s' "$release" | gcloud storage cp - "gs://$bucket/releases/proven"
    echo "$release is deployed in $PROJECT and works"
    exit
fi
[[ -n $before ]] || die "$release does not work, and no release was proven in $PROJECT before: nothing to go back to"
[[ $before != "$release" ]] || die "$release does not work, though it did before: its code is not what has changed, so it stays"
echo "$release does not work in $PROJECT: going back to $before" >&2
RELEASE=$before infra/deploy/rollback.sh || die "$PROJECT is half way between $release and $before: make rollback RELEASE=$before;" \
    "  where $before lacks a function that this tree deploys, check out its commit and make deploy"
if infra/deploy/smoke.sh; then
    die "$release does not work; $before runs in $PROJECT again"
fi
die "$release does not work; $before runs in $PROJECT again, and does not work either: look at what is around it (snapkeep doctor)"
