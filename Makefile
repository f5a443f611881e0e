# `make` shows what there is to make. Needs Python 3.11 or newer and nothing else; PYTHON=... chooses one.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install run test test-unit test-service check sbom audit lint docker-lint types format clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

# The newest Python this is tested on that really runs here and can make a virtual environment.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; \
	done)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Make the virtual environment with everything in it

$(INSTALLED): setup.cfg pyproject.toml constraints.txt tests/clients/package-lock.json
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	@command -v node >/dev/null && npm ci --prefix tests/clients --silent || \
		echo "node or npm is missing, or npm failed: the tests with a client in JavaScript will be skipped"
	@touch $@

run: $(INSTALLED) ## Run a sandbox Dynamics with data, Postgres and the proxy until interrupted
	@exec $(BIN)/syncpoint demo --config config/sandbox.toml

test: $(INSTALLED) ## Run every test
	$(PYTEST) -n 2 --dist worksteal

test-unit: $(INSTALLED) ## Run the pure tests: no database, no network, seconds
	$(PYTEST) -m 'not slow' tests/unit tests/architecture

test-service: $(INSTALLED) ## Run the tests that need Postgres or a network
	$(PYTEST) -n 2 --dist worksteal --ignore=tests/unit --ignore=tests/architecture

check: lint types sbom audit test ## Everything that must hold before a change is taken

sbom: $(INSTALLED) ## Write the bill of materials of the virtual environment: build/sbom.json, CycloneDX
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --output-reproducible --output-file build/sbom.json $(BIN)/python

audit: $(INSTALLED) ## Look for known vulnerabilities; says so where no database can be reached
	@$(BIN)/python .ci/audit.py

lint: $(INSTALLED) docker-lint ## Check style and form
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docker-lint: $(INSTALLED) ## Check the container files; needs no container engine
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml

types: $(INSTALLED) ## Check types
	$(BIN)/mypy

format: $(INSTALLED) ## Put everything into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what was made, the data of the embedded Postgres excepted
	rm -rf $(VENV) tests/clients/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
