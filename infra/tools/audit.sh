#!/usr/bin/env bash
# Known vulnerabilities of all that requirements.txt brings, as PyPI's advisories tell them: none, or this fails.
#
# An audit that could not ask has found nothing, and must not look like one that found nothing. So: whatever could not be
# looked up fails (--strict), and a version with a vulnerability known since 2020 has to be found first, which tells an
# index that has no advisories from one that has nothing against us.
set -euo pipefail
cd "$(dirname "$0")/../.."

pip_audit=${TOOLS:?TOOLS: the environment of infra/tools/requirements.txt; make audit sets it}/bin/pip-audit
known=$(mktemp)
trap 'rm -f "$known"' EXIT
echo 'PyYAML==5.3' >"$known" # CVE-2020-14343 and others

found=$("$pip_audit" --strict --progress-spinner off --no-deps --disable-pip --format json --requirement "$known" 2>&1) || true
if [[ $found != *'"id"'* ]]; then
    echo 'audit: nothing was audited: the advisory service (PyPI) is out of reach, or is an index without advisories.' >&2
    echo "  PyYAML 5.3, which is known to be vulnerable, was not found to be: ${found##*$'\n'}" >&2
    echo '  Run it where https://pypi.org/pypi/PyYAML/5.3/json is answered.' >&2
    exit 1
fi
exec "$pip_audit" --strict --progress-spinner off --requirement requirements.txt
