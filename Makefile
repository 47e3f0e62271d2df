# Each target makes the virtual environment it needs; `make help` lists them.
# Variables: PYTHON=python3.12 (the interpreter, >= 3.11), ARGS="-k pause" (passed on), WORKERS=2 (parallel tests).

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell .ci/find-python)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV ?= .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.ready-examples-$(VERSION)
BENCH_READY := $(VENV)/.ready-bench-$(VERSION)
DEV_READY := $(VENV)/.ready-dev-$(VERSION)
WORKERS ?= auto
ARGS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUN_READY) ## The e-mail service: 2 API and 2 worker processes, 500 invites, a table at the end
	$(BIN)/python -m examples.email_service $(ARGS)

.PHONY: email-up
email-up: $(RUN_READY) ## The e-mail service until Ctrl-C: Redis, 2 APIs, 2 workers, balancer; prints the addresses
	@$(BIN)/python -m examples.email_service.local $(ARGS)

.PHONY: email-load
email-load: $(RUN_READY) ## Load test of the e-mail service on this machine; a report with plots in build/email-load
	@$(BIN)/python -m examples.email_service.load $(ARGS)

.PHONY: test
test: check suite ## Everything that must pass before a change lands: lint, types, all tests

.PHONY: check
check: lint types lua ## Lint and type checks of Python and Lua, no tests

.PHONY: lint
lint: $(DEV_READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(DEV_READY) ## mypy (strict) and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: lua
lua: $(DEV_READY) ## Assemble every Lua script and lint it
	$(BIN)/python tests/lua_lint.py

# Tests marked `alone` measure time; they run afterwards, one by one. Exit code 5 means that none is selected.
.PHONY: suite
suite: $(DEV_READY) ## The test suite on fakeredis and on a real server
	.ci/redis-server
	.ci/deploy-tools
	.ci/node-packages
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not alone and not long" $(ARGS)
	$(BIN)/pytest -m "alone and not long" $(ARGS) || [ $$? -eq 5 ]

.PHONY: interop
interop: $(DEV_READY) ## BullMQ for Node and pyqueue on the same queues, and Bull Board in a browser; a table (needs npm)
	.ci/redis-server
	.ci/node-packages
	.ci/chromium
	$(BIN)/pytest tests/interop $(ARGS)

.PHONY: conformance
conformance: $(DEV_READY) ## The scenarios of real BullMQ against their goldens
	.ci/redis-server
	$(BIN)/pytest -n $(WORKERS) tests/conformance $(ARGS)

.PHONY: differential
differential: $(DEV_READY) ## Random scenarios on pyqueue and on real BullMQ, compared key by key (needs npm)
	.ci/redis-server
	$(BIN)/python -m tests.conformance.differential $(ARGS)

.PHONY: cron-golden
cron-golden: ## Make the golden of cron patterns anew, with the npm package cron-parser (needs npm)
	npm install --prefix tests/cron --no-save --no-package-lock --silent cron-parser@5.10.3 # the one that BullMQ 6.7 asks for
	node tests/cron/generate_golden.mjs | gzip -9n > tests/cron/golden.json.gz.new
	mv tests/cron/golden.json.gz.new tests/cron/golden.json.gz

.PHONY: chaos
chaos: $(DEV_READY) ## Every fault in full: processes killed and stopped, servers, networks; a table, about eleven minutes
	.ci/redis-server
	$(BIN)/python -m tests.chaos --full $(ARGS)

.PHONY: volume
volume: $(DEV_READY) ## Operations on a million jobs: seconds, calls, the slowest of them; a table, about five minutes
	.ci/redis-server
	$(BIN)/python -m tests.volume $(ARGS)

.PHONY: topologies
topologies: $(DEV_READY) ## The behaviour suite on Redis, Valkey, Cluster, Sentinel, TLS, ...; a table, about ten minutes
	.ci/redis-server
	$(BIN)/python -m tests.topologies -n $(WORKERS) $(ARGS)

.PHONY: email-audit
email-audit: $(DEV_READY) ## The e-mail service: 20,000 mails under kills and restarts, rate limit, shares; a table
	.ci/redis-server
	$(BIN)/python -m tests.email_audit $(ARGS)

.PHONY: acceptance
acceptance: $(DEV_READY) ## Which numbered behaviours no test cites, and why
	$(BIN)/python -m tests.acceptance.coverage

.PHONY: docs
docs: $(DEV_READY) ## Run every Python snippet of README.md and docs/
	.ci/redis-server
	$(BIN)/pytest tests/docs $(ARGS)

.PHONY: bench
bench: $(BENCH_READY) ## Measure pyqueue beside its peers; ARGS=--quick, ARGS=bars (installs them; needs npm)
	.ci/redis-server
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: format
format: $(DEV_READY) ## Format the Python code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: dist
dist: $(DEV_READY) ## Build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build

.PHONY: clean
clean: ## Remove the virtual environment, caches and build results
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/*/node_modules benchmarks/.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_READY): pyproject.toml
	.ci/make-venv "$(PYTHON)" "$(VENV)" examples
	@touch $@

$(BENCH_READY): pyproject.toml
	.ci/make-venv "$(PYTHON)" "$(VENV)" bench
	@touch $@

$(DEV_READY): pyproject.toml
	.ci/make-venv "$(PYTHON)" "$(VENV)" dev
	@touch $@ $(RUN_READY) $(BENCH_READY)
