#!/usr/bin/env bash
# Whether a deployment works, asked from outside as its operators ask: nothing that doctor finds wrong, and one recovery
# point of an instance that is there for this alone, taken and read back as verified.
#
#   SNAPKEEP_API, SNAPKEEP_IAP_CLIENT   where, and the IAP in front of it; a local cloud on this machine needs neither
#   CANARY_TENANT, CANARY_INSTANCE      whose point, and of what: an instance of the fleet that nobody would miss
#   CANARY_WAIT                         how long its verification may take (20m)
#
# The clock of a local cloud stands still meanwhile: `snapkeep sim advance 2h` from another terminal.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

snapkeep=${SNAPKEEP:-.venv/bin/snapkeep}
[[ -n ${CANARY_TENANT:-} ]] || die "CANARY_TENANT is not set: expected the tenant of the canary instance, as in CANARY_TENANT=canary"
[[ -n ${CANARY_INSTANCE:-} ]] || die "CANARY_INSTANCE is not set: expected the canary instance, as in CANARY_INSTANCE=canary-1"
if [[ ${SNAPKEEP_API:-} == https:* ]]; then
    need_project
    need_region
fi
command -v "$snapkeep" >/dev/null || die "$snapkeep is not there: make smoke sets it up"

# Of a deployment doctor reads Google's own control planes; of a local cloud this machine's.
where=()
[[ ${SNAPKEEP_API:-} != https:* ]] || where=("--project=${PROJECT:-}" "--region=${REGION:-}")
"$snapkeep" doctor ${where[@]+"${where[@]}"}
"$snapkeep" points create --tenant "$CANARY_TENANT" --instance "$CANARY_INSTANCE" --wait "${CANARY_WAIT:-20m}" \
    --reason "smoke test${RELEASE:+ of $RELEASE}"
