# What a developer does here. It needs Python 3.10 or later and make; all else goes into .venv.

PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done),python3)
# What `make demo` runs of the suite.
DEMO ?= -k "(head_lost and not without) or controller_lost or replica_lost or proxy_lost or worker_lost or node_lost"
# Requests per second: what two cores can carry beside a Ray that recovers. On four or more, give RATE=50.
RATE ?= 20
# More arguments for pytest: make test ARGS="-k outage -x"
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-local test-kind lint type bench build clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the package, its extras and the developer's tools

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

demo: $(INSTALLED) ## lose the head, a worker, a node, the controller, a replica and a proxy of a real local cluster
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate $(RATE) --pyargs pytest_serve_chaos.suite $(DEMO) $(ARGS)

test: lint type ## all that needs no Docker: lint, types, and the tests of unit, plugin and local
	$(BIN)/python -m pytest tests/unit tests/plugin $(ARGS)
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate $(RATE) tests/local $(ARGS)

test-unit: $(INSTALLED) ## the tests that need neither Ray nor Docker
	$(BIN)/python -m pytest tests/unit tests/plugin $(ARGS)

test-local: $(INSTALLED) ## the tests with a real Ray, as processes of this machine
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate $(RATE) tests/local $(ARGS)

test-kind: $(INSTALLED) ## the tests with a real kind cluster; needs docker, kind and kubectl
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-backend kind --serve-chaos-rate $(RATE) tests/kind/test_slice.py $(ARGS)

lint: $(INSTALLED) ## ruff, and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

type: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

bench: $(INSTALLED) ## measure what the plugin itself costs and can
	SERVE_CHAOS_RATE=$(RATE) $(BIN)/python -m benchmarks

build: $(INSTALLED) ## sdist and wheel into dist/
	$(BIN)/python -m build

clean: ## remove what was built and cached; .venv and reports stay
	rm -rf build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
