#!/usr/bin/env bash
# What a step of Cloud Build has to have before make: each begins in a fresh container of Google's image, which keeps only
# the tree and the volume /tools. Debian 12's python3 is 3.11; Terraform is laid into /tools by the first step.
set -euo pipefail
apt-get update -qq
apt-get install -y -qq --no-install-recommends make python3-venv >/dev/null
ln -sf /tools/terraform /usr/local/bin/terraform
