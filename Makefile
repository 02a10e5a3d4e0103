# Everything that a newcomer or a machine runs. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .sandbox
# Which of the examples the demo shows: quickstart, elementum.
SCENARIO ?= quickstart
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo sandbox sandbox-down test check lint format generate bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV): about 70 packages, 1 GB (PostgreSQL, kubectl, Go among them); a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r requirements/dev.txt \
		| awk '/^Collecting|^Installing|^Successfully/ {print "  " substr($$0, 1, 100); fflush()}'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --editable .
	@touch $@

setup: $(VENV)/.ready ## Make the virtual environment and build the control plane of the sandbox (once)
	@$(BIN)/lakebase-sandbox build > /dev/null

demo: setup ## See it work: a cluster, a simulated Lakebase, the operator, and thirty proofs (SCENARIO=elementum for another)
	@$(BIN)/lakebase-sandbox demo --state $(STATE)-demo --scenario $(SCENARIO)

sandbox: setup ## Start the same and leave it running (STATE=.sandbox)
	@$(BIN)/lakebase-sandbox up --state $(STATE)
	@echo 'Now run:  eval "$$($(BIN)/lakebase-sandbox env --state $(STATE))"  &&  kubectl get lbc,pgr,um,ag -A'

sandbox-down: $(VENV)/.ready ## Stop what `make sandbox` started
	@$(BIN)/lakebase-sandbox down --state $(STATE)

test: check setup ## Run every check (TESTS="unit postgres" for some parts)
	@echo "Real PostgreSQL 16 and 18, a real API server, the simulator: fifteen minutes on two cores, several parts at a time"
	@$(BIN)/python tools/run_tests.py $(TESTS)

check: lint ## What needs no server: lint, types, import contracts, generated files
	@$(BIN)/python -m lakebase_operator.crdgen --check
	@$(BIN)/python tools/requirements_table.py --check
	@$(BIN)/python tools/metrics_page.py --check
	@$(BIN)/python tools/performance_page.py --check

lint: $(VENV)/.ready ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.ready ## Put the code into shape
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

generate: $(VENV)/.ready ## Write CRDs, reference pages and the table of requirements anew
	@$(BIN)/python -m lakebase_operator.crdgen
	@$(BIN)/python tools/requirements_table.py
	@$(BIN)/python tools/metrics_page.py
	@$(BIN)/python tools/performance_page.py

bench: setup ## Measure, as ratios within one run; writes bench/results/ and docs/performance.md
	@$(BIN)/python -m bench
	@$(BIN)/python tools/performance_page.py

lock: $(VENV)/.ready ## Pin all dependencies with hashes
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra sandbox --extra dev pyproject.toml -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements/runtime.txt

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
