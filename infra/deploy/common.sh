#!/usr/bin/env bash
# What the scripts of this folder share; each sources it. Its settings come from the environment, as make hands them on:
#
#   PROJECT   Snapkeep's own project                    REGION   where it runs
#   ROOT      the Terraform root to apply               RELEASE  an uploaded release instead of what this tree builds
#   CONFIRM   PROJECT again: answers yes beforehand     ARGS     options for Terraform, files as seen from ROOT: -var-file=...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ROOT=${ROOT:-infra/gcp/examples/minimal}
PYTHON=${PYTHON:-python3}
export TF_IN_AUTOMATION=1
approval=(-input=false) # what Terraform is told about asking; decide_approval changes it

# Says what is wrong and what to do, and ends the script.
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

need_project() {
    [[ -n ${PROJECT:-} ]] || die "PROJECT is not set: expected the id of the project that Snapkeep has to itself, as in PROJECT=acme-snapkeep"
    [[ $PROJECT =~ ^[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] || die "PROJECT: '$PROJECT' is not the id of a project (6 to 30 of a-z, 0-9 and -), such as acme-snapkeep"
    bucket=$PROJECT-snapkeep
}

need_region() {
    [[ -n ${REGION:-} ]] || die "REGION is not set: expected where Snapkeep runs, as in REGION=southamerica-east1"
    [[ $REGION =~ ^[a-z]+-[a-z]+[0-9]+$ ]] || die "REGION: '$REGION' is not a region, such as southamerica-east1"
}

need_gcloud() {
    command -v gcloud >/dev/null || die "gcloud is not on the path: install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install)"
    [[ -n $(gcloud auth list --filter=status:ACTIVE '--format=value(account)' 2>/dev/null) ]] ||
        die "gcloud has no credentials: gcloud auth login"
}

need_terraform() {
    command -v terraform >/dev/null || die "terraform is not on the path: install Terraform 1.9 or newer (https://developer.hashicorp.com/terraform/install)"
    gcloud auth application-default print-access-token >/dev/null 2>&1 ||
        die "Terraform would find no credentials: gcloud auth application-default login"
    [[ -d $ROOT ]] || die "ROOT: '$ROOT' is not a folder: expected a Terraform root, such as infra/gcp/examples/minimal"
}

# What every script that runs Terraform needs.
need_all() {
    need_project
    need_region
    need_gcloud
    need_terraform
}

# Whether an object in Cloud Storage is there: 0 yes, 1 no. Ends the script where Google does not say, so that a refusal
# is never taken for an absence. $1: its address.
exists() {
    local said
    if said=$(gcloud storage objects describe "$1" "--project=$PROJECT" '--format=value(name)' 2>&1); then
        return 0
    fi
    [[ $said == *'not found: 404'* ]] || die "$1 cannot be looked at: $said"
    return 1
}

# Whether the bucket is there and this project's: names of buckets are everybody's, and a stranger's of this name must
# get neither our state nor our releases. Ends the script where Google does not say.
owns_bucket() {
    local said
    said=$(gcloud storage buckets list "--project=$PROJECT" "--filter=name=$bucket" '--format=value(name)' 2>&1) ||
        die "the buckets of $PROJECT cannot be looked at: $said"
    [[ $said == "$bucket" ]]
}

need_bucket() {
    owns_bucket || die "$PROJECT has no bucket gs://$bucket: make bootstrap PROJECT=$PROJECT REGION=$REGION"
}

# The name of a release in its short form, from any form that a person may give: functions-0123456789ab.zip
named() {
    local name=${1##*/}
    name=functions-${name#functions-}
    name=${name%.zip}.zip
    [[ $name =~ ^functions-[0-9a-f]{12}\.zip$ ]] ||
        die "RELEASE: '$1' is not a release, such as functions-0123456789ab.zip; make releases lists what was uploaded"
    printf '%s' "$name"
}

# Builds this tree's release and prints its path; the path alone says what it holds.
build() {
    "$PYTHON" -m infra.package
}

# The release that the functions run now, in its short form; nothing where none is deployed. One function is asked: all
# get their release by one apply.
deployed() {
    local said
    if said=$(gcloud functions describe snapkeep-plan "--project=$PROJECT" "--region=$REGION" --v2 \
        '--format=value(buildConfig.source.storageSource.object)' 2>&1); then
        [[ -z $said ]] || basename "$said"
    elif [[ $said != *'NOT_FOUND'* && $said != *'not found'* && $said != *'status=[404]'* ]]; then
        die "snapkeep-plan cannot be looked at: $said"
    fi
}

# For commands that change something. A script without a terminal and without CONFIRM changes nothing.
decide_approval() {
    if [[ -n ${CONFIRM:-} ]]; then
        [[ $CONFIRM == "$PROJECT" ]] || die "CONFIRM: '$CONFIRM' is not this project: expected CONFIRM=$PROJECT"
        approval=(-input=false -auto-approve)
    elif [[ -t 0 ]]; then
        approval=()
    else
        die "nobody is here to say yes: CONFIRM=$PROJECT says it beforehand"
    fi
}

# -reconfigure: a checkout that was last used for another project must not offer to move that one's state here.
terraform_init() {
    terraform "-chdir=$ROOT" init -input=false -reconfigure "-backend-config=bucket=$bucket" -backend-config=prefix=state
}

# Runs a command of Terraform on the root. $1: the command; $2: the release.
terraform_run() {
    local command=$1 release=$2 more=()
    read -r -a more <<<"${ARGS:-}"
    terraform "-chdir=$ROOT" "$command" "-var=project=$PROJECT" "-var=region=$REGION" "-var=release=releases/$release" \
        ${approval[@]+"${approval[@]}"} ${more[@]+"${more[@]}"}
}
