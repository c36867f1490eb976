# Vision Gateway. `make run` starts it on this machine; `make test` checks everything.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first of these that runs and is 3.11 or newer.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python3.13; do \
  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo "$$p" && break; done)
# Processes that the suite runs in; 0 runs it in this one, as `pytest` alone does.
PROCESSES ?= 2
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-deps
# Of all that pip says, the downloads that take a while.
DOWNLOADS = sed -un 's/^ *Downloading \([^ ]*\) (\([0-9.]* [MG]B\)).*/  \1 (\2)/p'

.PHONY: help
help: ## Shows this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: run
run: $(VENV)/.embedded ## Starts Triton with the CPU model and the gateway, shows five answers, keeps serving
	exec $(BIN)/vision-gateway up $(ARGS)

.PHONY: setup
setup: $(VENV)/.development ## Sets up the development environment

.PHONY: setup-gemma4
setup-gemma4: $(VENV)/.gemma4 ## Adds torch and transformers, for the tests that run Gemma 4's own classes (about 2.5 GB)

.PHONY: test
test: setup check ## Sets up and runs every check and the whole suite
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal $(ARGS)

.PHONY: check
check: setup ## Formats, lint, types, import layers, proto; all but the suite
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/buf format --diff --exit-code proto
	if git rev-parse --quiet --verify main:proto >/dev/null 2>&1; then $(BIN)/buf breaking proto --against '.git#branch=main,subdir=proto'; fi
	proto/check_generated.sh

.PHONY: format
format: setup ## Formats the code and the proto
	$(BIN)/ruff format --quiet
	$(BIN)/ruff check --fix --quiet || true
	$(BIN)/buf format --write proto

.PHONY: generate
generate: setup ## Generates from proto/ the Python stubs, and what Envoy knows of it
	proto/generate.sh
	$(BIN)/python -m deploy.envoy.generate

.PHONY: bench
bench: setup ## Measures what the gateway adds to a call (tests/bench/README.md)
	$(BIN)/python -m tests.bench.gateway_overhead

.PHONY: failover
failover: setup ## Runs every failure there is and writes what callers see into docs/resilience.md
	$(BIN)/python -m tests.failover --write

.PHONY: dashboards
dashboards: setup ## Generates Grafana's dashboards from deploy/grafana/
	$(BIN)/python -m deploy.grafana.generate

.PHONY: lock
lock: ## Locks the requirements anew; needs uv
	requirements/lock.sh

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then
	  echo "Vision Gateway needs Python 3.11 or 3.12; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1
	fi
	echo "Making $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: requirements/embedded.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the gateway, Triton and the CPU model (about 350 MB; once)"
	$(PIP_INSTALL) --require-hashes -r requirements/embedded.lock | $(DOWNLOADS)
	$(PIP_INSTALL) --quiet --no-build-isolation --editable .
	touch $@

$(VENV)/.development: requirements/development.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the development environment (about 450 MB; once)"
	$(PIP_INSTALL) --require-hashes -r requirements/development.lock | $(DOWNLOADS)
	$(PIP_INSTALL) --quiet --no-build-isolation --editable .
	touch $@ $(VENV)/.embedded

$(VENV)/.gemma4: requirements/gemma4.lock $(VENV)/.development
	@echo "Installing torch and transformers (about 2.5 GB; once)"
	$(PIP_INSTALL) --require-hashes -r requirements/gemma4.lock | $(DOWNLOADS)
	touch $@
