#!/usr/bin/env bash
# build/sbom.json: every distribution that a function runs on, with version, licence and what needs it (CycloneDX 1.6),
# checked against its schema. Read from an environment that holds requirements.txt and what that brings, nothing else:
# made once (needs the package index), read as often as asked (needs nothing).
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=${TOOLS:?TOOLS: the environment of infra/tools/requirements.txt; make sbom sets it}/bin
build=${BUILD:-build}
runtime=$build/runtime
mkdir -p "$build"
if ! cmp -s requirements.txt "$runtime/made-of"; then
    "$tools/python" -m venv --clear --without-pip "$runtime"
    "$tools/python" -m pip --python "$runtime/bin/python" --disable-pip-version-check --quiet --quiet --no-input \
        install --no-compile --requirement requirements.txt
    cp requirements.txt "$runtime/made-of"
fi
# What the SBOM is of: this project, with what it asks for by name. The tool does not follow `dynamic` to that list.
{
    echo '[project]'
    grep -E '^(name|version|description) = ' pyproject.toml
    echo 'dependencies = ['
    sed -nE 's/^([^#].*)$/    "\1",/p' requirements.txt
    echo ']'
} >"$runtime/pyproject.toml"
"$tools/cyclonedx-py" environment --validate --output-reproducible --spec-version 1.6 \
    --pyproject "$runtime/pyproject.toml" \
    --output-file "$build/sbom.json" "$runtime"
echo "$build/sbom.json"
