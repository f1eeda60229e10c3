# What each target does: `make help`. Everything runs in .venv, and nothing has to be installed before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Files that a finished set-up leaves, and what makes it stale.
RUNTIME := $(VENV)/.runtime-ready
DEV := $(VENV)/.dev-ready

LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11

CHAOS := --orchestrator-kills 1000 --rabbitmq-kills 200 --postgresql-kills 200 --worker-kills 200 \
	--orchestrator-starting-kills 50 --orchestrator-stops 30 --orchestrator-terms 30 --worker-stops 20 \
	--worker-terms 20 --rabbitmq-stops 10 --postgresql-stops 10 --minutes 90

# With the environment's programs first on PATH, where the worker's commands look for them.
OPENAPERTURE := PATH="$(CURDIR)/$(BIN):$$PATH" openaperture
# Where openaperture.json of this repository deploys to.
TARGET := OPENAPERTURE_WORKER__ENVIRONMENT__DEPLOY_TARGET="$(CURDIR)/.openaperture/deployed"

.DEFAULT_GOAL := help
.PHONY: help setup run up check format lint imports types pyright unit test soak mutants chaos bench diagram schemas matrix lock clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(DEV) ## Make .venv with everything that development needs

$(DEV): requirements/dev.txt scripts/make-venv pyproject.toml
	@scripts/make-venv $(PYTHON) $(VENV) requirements/dev.txt
	@touch $@ $(RUNTIME)

$(RUNTIME): requirements/runtime.txt requirements/build.txt scripts/make-venv pyproject.toml
	@scripts/make-venv $(PYTHON) $(VENV) requirements/runtime.txt requirements/build.txt
	@touch $@

run: $(RUNTIME) ## Release this repository: build its wheel, deploy it, no other service needed
	@$(TARGET) $(OPENAPERTURE) run . --milestones build,deploy $(ARGS)

up: $(RUNTIME) ## Start orchestrator, worker and Manager in one process, and stay
	@$(TARGET) $(OPENAPERTURE) up $(ARGS)

check: setup ## The quick loop: format, lint, layers, types, unit and property tests
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target unit pyright types imports lint format
	@echo "check: all passed"

format: setup
	@$(BIN)/ruff format --check .

lint: setup
	@$(BIN)/ruff check .

imports: setup
	@$(BIN)/lint-imports --no-logo

types: setup
	@$(BIN)/mypy

pyright: setup
	@$(BIN)/pyright

unit: setup
	@$(BIN)/pytest --numprocesses=2 --dist=loadfile tests/unit tests/property

test: setup ## Everything: the checks, and all tests on real servers, which it starts (ARGS go to pytest)
	@$(BIN)/python -m tests.servers start
	@failed=0; said=$$(mktemp); \
	$(MAKE) --no-print-directory --keep-going pyright types imports lint format > $$said 2>&1 & checks=$$!; \
	$(BIN)/pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder $(ARGS) || failed=1; \
	wait $$checks || failed=1; cat $$said; rm -f $$said; \
	exit $$failed

soak: setup ## Simulate 10,000,000 deliveries, and every pair of crashes in the golden scenarios (hours)
	@$(BIN)/python -m tests.simulation --deliveries 10000000 $(ARGS)
	@$(BIN)/python -m tests.simulation --enumerate

mutants: setup ## Plant known defects one by one in a copy; the simulation has to find each (ARGS are names)
	@$(BIN)/python -m scripts.mutants $(ARGS)

chaos: setup ## Strike the product for about an hour, then judge what is left (ARGS go to it, --help lists them)
	@$(BIN)/python -m tests.chaos $(CHAOS) $(ARGS)

bench: setup ## Measure the product beside a bare floor, in one run
	@$(OPENAPERTURE) bench $(ARGS)

diagram: setup ## Draw the table of moves into ARCHITECTURE.md
	@$(BIN)/python -m scripts.diagram

schemas: setup ## Write docs/schemas from the wire messages
	@$(BIN)/python -m scripts.schemas

matrix: setup ## Write docs/explanation/failure-matrix.md from the marks on the tests
	@$(BIN)/python -m tests.failure_matrix

lock: setup ## Pin the newest versions that pyproject.toml allows (ARGS=--upgrade), with hashes
	@$(LOCK) $(ARGS) pyproject.toml -o requirements/runtime.txt
	@$(LOCK) $(ARGS) --group build -c requirements/runtime.txt -o requirements/build.txt
	@$(LOCK) $(ARGS) pyproject.toml --group dev -c requirements/runtime.txt -c requirements/build.txt \
		-o requirements/dev.txt

clean: ## Remove .venv, caches and built files; releases in .openaperture stay
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
