# What a developer does here. It needs Python 3.10 or later and make; all else goes into .venv.

PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done),python3)
# What `make demo` runs of the suite.
DEMO ?= -k "(head_lost and not without) or controller_lost or replica_lost or proxy_lost or worker_lost or node_lost"
# Requests per second: what two cores can carry alongside a Ray that recovers. On four or more, give RATE=50.
RATE ?= 20
# What is installed alongside the package: make test-unit EXTRAS=kind,dev does without Ray.
EXTRAS ?= all,dev
# For make suite: the marker of one fault, the backend, and where reports go. RAY, where it is given, is another version
# of Ray: of the package for local, of the image for kind.
FAULT ?=
BACKEND ?= local
REPORTS ?= .serve-chaos
HISTORIES = $(wildcard $(REPORTS)/2*/history.jsonl)
RAY ?=
RAY_IMAGE ?= $(if $(RAY),rayproject/ray:$(RAY),rayproject/ray:2.60.0)
REDIS_IMAGE ?= redis:7.0
OPERATOR_IMAGE ?= quay.io/kuberay/operator:v1.6.2
# The tests of the plugin wait nine tenths of their time, and some for much longer than others: eight processes are not too many for
# two cores, and each takes tests over from those that have more left.
OF_PLUGIN := -n 8 --dist worksteal
# For make test, which takes twenty minutes at most: those of tests/local without which nothing may change. make test-local has all.
QUICK_LOCAL_TESTS := $(addprefix tests/local/test_,$(addsuffix .py,broken_clusters lifecycle updated_apps))
# For make test-kind: test_faults, test_logs, test_machines and test_verbs take the cluster of the run, or with --serve-chaos-keep in ARGS
# the one that is kept. Each of the others makes its own, or takes over the kept one that SERVE_CHAOS_TEST_CLUSTER names.
KIND_TESTS ?= tests/kind
# More arguments for pytest: make test ARGS="-k outage -x"
ARGS ?=
# Where make lint looks for words that are not used here (tools/words.txt): text for people, and of the package the messages and
# docstrings of the paths in WORDS_OF_CODE.
WORDS := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md changelog.d docs .github/ISSUE_TEMPLATE
WORDS_OF_CODE := pytest_serve_chaos
# What is released, for make inspect: the tag, and the repository as GitHub names it.
TAG ?=
REPOSITORY ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

OF_KIND := --serve-chaos-ray-image=$(RAY_IMAGE) $(if $(RAY),--serve-chaos-ray-version=$(RAY)) \
	--serve-chaos-redis-image=$(REDIS_IMAGE) --serve-chaos-operator-image=$(OPERATOR_IMAGE)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-browser test-truth test-local test-kind test-lowest test-pytest-main test-wheel suite summary \
	images doctor lint lint-workflows type docs bench build inspect gate clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the package, its extras and the developer's tools

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' $(if $(filter local,$(BACKEND)),$(if $(RAY),'ray[serve]==$(RAY)'))
	@touch $@

demo: $(INSTALLED) ## lose the head, a worker, a node, the controller, a replica and a proxy of a real local cluster
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate=$(RATE) --pyargs pytest_serve_chaos.suite $(DEMO) $(ARGS)

test: lint type test-unit test-browser test-truth ## lint, types, and the tests that need no Docker; test-local has more of them
	$(BIN)/python -m pytest -n 4 tests/local/test_serve_schema.py $(ARGS)
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate=$(RATE) $(QUICK_LOCAL_TESTS) $(ARGS)

test-unit: $(INSTALLED) ## the tests that need neither Ray nor Docker; those of the plugin wait most of their time
	$(BIN)/python -m pytest -n 4 tests/unit tests/adversary $(ARGS)
	$(BIN)/python -m pytest $(OF_PLUGIN) tests/plugin $(ARGS)

test-browser: $(INSTALLED) ## report.html in Chromium; skipped where there is none
	$(BIN)/python -m pytest tests/browser $(ARGS)

test-truth: $(INSTALLED) ## real traffic against a scripted server; SERVE_CHAOS_TRUTH=full tries every rate and timeout
	$(BIN)/python -m pytest tests/truth $(ARGS)

test-local: $(INSTALLED) ## the tests with a real Ray, as processes of this machine
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-rate=$(RATE) tests/local $(ARGS)

test-kind: $(INSTALLED) ## the tests with a real kind cluster; needs docker, kind and kubectl
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-backend=kind --serve-chaos-rate=$(RATE) $(KIND_TESTS) $(ARGS)

test-lowest: ## the unit and plugin tests with the oldest dependencies of the package; with Python 3.10
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct \
		--requirement pyproject.toml --extra kind 'pytest>=9.0' 'pytest-xdist>=3.8' 'hypothesis>=6.140'
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	build/lowest/bin/python -m pytest -n 4 tests/unit tests/plugin $(ARGS)

test-pytest-main: ## the unit and plugin tests with the main branch of pytest
	$(PYTHON) -m venv build/pytest-main
	build/pytest-main/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[kind,dev]'
	build/pytest-main/bin/python -m pip install --quiet --disable-pip-version-check \
		'pytest @ git+https://github.com/pytest-dev/pytest@main'
	build/pytest-main/bin/python -m pytest -n 4 tests/unit tests/plugin $(ARGS)

test-wheel: ## the unit and plugin tests of the sdist in dist/, with the wheel there in place of the source
	rm -rf build/wheel
	mkdir -p build/wheel
	tar -xzf dist/*.tar.gz -C build/wheel --strip-components 1
	$(PYTHON) -m venv build/wheel/.venv
	build/wheel/.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo $(CURDIR)/dist/*.whl)[kind,dev]"
	rm -r build/wheel/pytest_serve_chaos
	ln -s "$$(echo $(CURDIR)/build/wheel/.venv/lib/python*/site-packages/pytest_serve_chaos)" build/wheel/
	cd build/wheel && .venv/bin/python -m pytest -n 4 tests/unit tests/plugin $(ARGS)

suite: $(INSTALLED) ## the guide as tests: make suite BACKEND=kind FAULT=head_failure RAY=2.56.0
	$(BIN)/python -m pytest --serve-chaos --serve-chaos-backend=$(BACKEND) --serve-chaos-rate=$(RATE) \
		--serve-chaos-report-dir=$(REPORTS) --junit-xml $(REPORTS)/junit.xml $(if $(filter kind,$(BACKEND)),$(OF_KIND)) \
		--pyargs pytest_serve_chaos.suite $(if $(FAULT),-m $(FAULT)) $(ARGS)

summary: $(INSTALLED) ## the tables of all runs in REPORTS as Markdown; failed experiments are in them
	@$(if $(HISTORIES),$(BIN)/serve-chaos analyse --format github $(HISTORIES) || test $$? -eq 1,echo "no experiments in $(REPORTS)")

images: ## get the images that kind needs, where Docker has not got them
	for image in $(RAY_IMAGE) $(REDIS_IMAGE) $(OPERATOR_IMAGE); do \
		docker image inspect --format '{{.Id}}' $$image || docker pull --quiet $$image || exit; done

doctor: $(INSTALLED) ## what BACKEND needs, and whether it is here
	$(BIN)/serve-chaos doctor $(BACKEND)

lint: $(INSTALLED) ## ruff, the layers, and the words of messages and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_words.py $(WORDS) $(WORDS_OF_CODE)

lint-workflows: $(INSTALLED) ## actionlint and zizmor, for .github/workflows; needs Go
	GOBIN=$(abspath $(BIN)) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.8
	$(BIN)/python -m pip install --quiet --disable-pip-version-check zizmor==1.32.0
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --pedantic .github/workflows

type: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

docs: $(INSTALLED) ## the site, into docs/_build/html; a link that leads nowhere is an error. Its pictures, where there is a browser
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python tools/report_pictures.py docs/pictures --where-possible
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html

bench: $(INSTALLED) ## measure what the plugin itself costs and can
	SERVE_CHAOS_RATE=$(RATE) $(BIN)/python -m benchmarks

build: $(INSTALLED) ## sdist and wheel into dist/
	rm -rf dist
	$(BIN)/python -m build

inspect: $(INSTALLED) ## check dist/ before a release: make inspect TAG=v0.1.0 REPOSITORY=owner/pytest-serve-chaos
	$(BIN)/python -m pip install --quiet --disable-pip-version-check twine check-wheel-contents
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python tools/check_release.py "$(TAG)" "$(REPOSITORY)" dist/*.whl

gate: ## fail unless each job succeeded: RESULTS has the jobs as GitHub's `needs` gives them
	@printf '%s' "$$RESULTS" | jq --exit-status 'length > 0 and all(.[]; .result == "success")'

clean: ## remove what was built and cached; .venv and reports stay
	rm -rf build dist docs/_build .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
