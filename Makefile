# Everything a newcomer needs: Python 3.11 or newer and access to the Python package index.
# `make` alone lists the targets. Options for the program behind a target go in ARGS: make demo ARGS="--days 7".

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet --no-input
PIP_VERSION := 26.3
# Two more than the two cores that it is to do on: the tests of a local cloud wait for a good part of their time.
WORKERS ?= 4
# A file is one worker's, with the local cloud or the emulators that its tests share; in their order, since the long
# ones have few tests and would come last.
DIVIDE := --dist loadfile --no-loadscope-reorder
# What only checks and the pipeline use, apart from what Snapkeep is run and tested with.
TOOLS := .venv-tools
# What the Terraform is held to Google's schema with: it would force older versions on both of the others.
export INFRA_VENV ?= .venv-infra
INFRA_PIP = $(INFRA_VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet --no-input
# Tests start thousands of short processes, which would each compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE
# Google's clients would tell of every connection that a test cuts.
export GRPC_VERBOSITY ?= ERROR

# Read by infra/deploy/*.sh, which say what each is for: PROJECT, REGION, ROOT, RELEASE, CONFIRM and the like are given
# in the environment or behind the target, as in: make deploy PROJECT=acme-snapkeep REGION=southamerica-east1
export ARGS PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo up test check lint fmt generate bench clean terraform audit sbom package chromium \
	bootstrap plan deploy smoke releases rollback replace promote destroy

help: ## List the targets
	@awk '/^##@ / {print "\n" substr($$0, 5)} \
		/^[a-z]+:.*## / {split($$0, part, /:.*## /); printf "  make %-9s %s\n", part[1], part[2]}' $(MAKEFILE_LIST)

##@ Try it

demo: $(VENV)/.runtime ## Fast-forward the example fleet in one process
	@$(BIN)/snapkeep demo $(ARGS)

up: $(VENV)/.runtime ## Start the local cloud: emulators, simulator, every function (Ctrl-C stops it)
	@$(BIN)/snapkeep up $(ARGS)

##@ Work on it

test: $(VENV)/.dev $(TOOLS)/.done $(INFRA_VENV)/.made chromium ## Run every test and say how many of each kind ran
	$(BIN)/python -m pytest -n $(WORKERS) $(DIVIDE) $(ARGS)

check: lint $(TOOLS)/.done $(INFRA_VENV)/.made ## Formatting, lint, types, and the tests that are quick
	$(BIN)/python -m pytest -n $(WORKERS) $(DIVIDE) -m "not e2e and not slow and not browser" $(ARGS)

lint: $(VENV)/.dev ## Formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: $(VENV)/.dev ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(VENV)/.runtime ## Write every generated file that is stale, and name it (infra/generate.py knows them all)
	@$(BIN)/python -m infra.generate

bench: $(VENV)/.dev ## Count and measure generated fleets; write docs/performance.md (ARGS=--quick: a look)
	@$(BIN)/python -m tests.bench $(ARGS)

terraform: $(VENV)/.dev $(INFRA_VENV)/.made ## Hold the Terraform to its format, Google's schema and checkov; plan it
	@command -v terraform >/dev/null || { echo "Terraform is missing: install Terraform 1.9 or newer, https://developer.hashicorp.com/terraform/install" >&2; exit 1; }
	terraform fmt -check -recursive
	$(BIN)/python -m pytest tests/infra/terraform $(ARGS)

clean: ## Remove the virtual environments and everything that was built or cached
	rm -rf $(VENV) $(TOOLS) $(INFRA_VENV) .snapkeep build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find functions infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

##@ What goes into a release

package: ## Build the release, build/functions-{hash}.zip: the same tree, the same bytes
	@$(PYTHON) -m infra.package

audit: $(TOOLS)/.done ## Look for known vulnerabilities in all that the functions run on
	@TOOLS=$(TOOLS) infra/tools/audit.sh

sbom: $(TOOLS)/.done ## Write build/sbom.json: all that the functions run on (CycloneDX)
	@TOOLS=$(TOOLS) infra/tools/sbom.sh

##@ On Google Cloud (PROJECT=... REGION=...; see infra/gcp/README.md)

bootstrap: ## Once for a project: what Terraform itself needs, APIs and a bucket
	@infra/deploy/bootstrap.sh

plan: ## Say what deploy would change
	@infra/deploy/plan.sh

deploy: ## Package, upload, apply (ROOT=... a root of your own; RELEASE=... an uploaded one)
	@infra/deploy/deploy.sh

smoke: $(VENV)/.runtime ## Ask a deployment, or a local cloud, whether it works: doctor, and a point of the canary
	@SNAPKEEP=$(BIN)/snapkeep infra/deploy/smoke.sh

releases: ## List what was uploaded, and say which release is deployed
	@infra/deploy/releases.sh

rollback: ## Deploy an older release: RELEASE=functions-....zip
	@infra/deploy/rollback.sh

replace: $(VENV)/.runtime ## Deploy RELEASE, smoke; go back to the release that was proven last where either fails
	@SNAPKEEP=$(BIN)/snapkeep infra/deploy/replace.sh

promote: ## Ask for staging's release in production: starts the trigger there, which waits for an approval
	@infra/deploy/promote.sh

destroy: ## Take the deployment away, and say what stays. No snapshot is touched
	@infra/deploy/destroy.sh

# Stamps: made once, and anew when the requirements change.
$(VENV)/.runtime: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the path: Snapkeep needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Snapkeep needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another one with PYTHON=..." % sys.version_info[:2])'
	@echo "Setting up $(VENV) (once)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install pip==$(PIP_VERSION)
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what the tests and checks use (once)" >&2
	@$(PIP) install --group dev
	@touch $@

$(TOOLS)/.done: infra/tools/requirements.txt
	@echo "Setting up $(TOOLS) (once)" >&2
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check --quiet --quiet --no-input install -r $<
	@touch $@

$(INFRA_VENV)/.made: $(addprefix tests/infra/terraform/,requirements.txt bindings.txt bindings.py)
	@echo "Setting up $(INFRA_VENV) (once)" >&2
	@$(PYTHON) -m venv --clear $(INFRA_VENV)
	@$(INFRA_PIP) install pip==$(PIP_VERSION)
	@$(INFRA_PIP) install --requirement tests/infra/terraform/requirements.txt
	@$(INFRA_PIP) download --no-deps --dest $(INFRA_VENV)/wheels --requirement tests/infra/terraform/bindings.txt
	@$(PYTHON) tests/infra/terraform/bindings.py $(INFRA_VENV)/wheels $(INFRA_VENV)/bindings
	@rm -r $(INFRA_VENV)/wheels
	@touch $@

# The browser that the tests of the pages look with. Without it, and without the right to install it, they fail and say
# how it is installed.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| [ "$$(id -u)" != 0 ] || { \
		echo "Installing Chromium (once)" >&2; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "Chromium was not installed: the tests of the pages will fail and say so" >&2
