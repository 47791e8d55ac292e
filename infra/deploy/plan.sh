#!/usr/bin/env bash
# What make deploy would change, without changing or uploading anything.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

need_all
need_bucket

archive=$(build)
release=$(named "${RELEASE:-${archive##*/}}")
terraform_init
terraform_run plan "$release"
