# What a developer does here. It needs Python 3.10 or later and make; all else goes into .venv.

PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done),python3)
# What `make demo` runs of the suite.
DEMO ?= -k "(head_lost and not without) or controller_lost or replica_lost or proxy_lost or worker_lost or node_lost"
# Requests per second: what two cores can carry beside a Ray that recovers. On four or more, give RATE=50.
RATE ?= 20
# What is installed beside the package: make test-unit EXTRAS=kind,dev does without Ray.
EXTRAS ?= all,dev
# For make suite: the marker of one fault, the backend, and where reports go. RAY, where it is given, is another version
# of Ray: of the package for local, of the image for kind.
FAULT ?=
BACKEND ?= local
REPORTS ?= .serve-chaos
HISTORIES = $(wildcard $(REPORTS)/*/history.jsonl)
RAY ?=
RAY_IMAGE ?= $(if $(RAY),rayproject/ray:$(RAY),rayproject/ray:2.60.0)
REDIS_IMAGE ?= redis:7.0
OPERATOR_IMAGE ?= quay.io/kuberay/operator:v1.6.2
# For make test-kind: test_logs, test_machines and test_verbs take the cluster of the run, or with --serve-chaos-keep in ARGS the one
# that is kept. Each of the others makes its own, or takes over the kept one that SERVE_CHAOS_TEST_CLUSTER names.
KIND_TESTS ?= tests/kind
# More arguments for pytest: make test ARGS="-k outage -x"
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

OF_KIND := --serve-chaos-ray-image $(RAY_IMAGE) $(if $(RAY),--serve-chaos-ray-version $(RAY)) \
	--serve-chaos-redis-image $(REDIS_IMAGE) --serve-chaos-operator-image $(OPERATOR_IMAGE)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-local test-kind suite summary images doctor lint lint-workflows type bench \
	build clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the package, its extras and the developer's tools

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' $(if $(filter local,$(BACKEND)),$(if $(RAY),'ray[serve]==$(RAY)'))
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
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-backend kind --serve-chaos-rate $(RATE) $(KIND_TESTS) $(ARGS)

suite: $(INSTALLED) ## the guide as tests: make suite BACKEND=kind FAULT=head_failure RAY=2.56.0
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-backend $(BACKEND) --serve-chaos-rate $(RATE) \
		--serve-chaos-report-dir $(REPORTS) --junit-xml $(REPORTS)/junit.xml $(if $(filter kind,$(BACKEND)),$(OF_KIND)) \
		--pyargs pytest_serve_chaos.suite $(if $(FAULT),-m $(FAULT)) $(ARGS)

summary: $(INSTALLED) ## the tables of all runs in REPORTS as Markdown; failed experiments are in them
	@$(if $(HISTORIES),$(BIN)/serve-chaos analyse --format github $(HISTORIES) || test $$? -eq 1,echo "no experiments in $(REPORTS)")

images: ## get the images that kind needs, where Docker has not got them
	for image in $(RAY_IMAGE) $(REDIS_IMAGE) $(OPERATOR_IMAGE); do \
		docker image inspect --format '{{.Id}}' $$image || docker pull --quiet $$image || exit; done

doctor: $(INSTALLED) ## what BACKEND needs, and whether it is here
	$(BIN)/serve-chaos doctor $(BACKEND)

lint: $(INSTALLED) ## ruff, and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

lint-workflows: $(INSTALLED) ## actionlint and zizmor, for .github/workflows; needs Go
	GOBIN=$(abspath $(BIN)) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.8
	$(BIN)/python -m pip install --quiet --disable-pip-version-check zizmor==1.32.0
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --pedantic .github/workflows

type: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

bench: $(INSTALLED) ## measure what the plugin itself costs and can
	SERVE_CHAOS_RATE=$(RATE) $(BIN)/python -m benchmarks

build: $(INSTALLED) ## sdist and wheel into dist/
	$(BIN)/python -m build

clean: ## remove what was built and cached; .venv and reports stay
	rm -rf build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
