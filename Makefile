# Everything a developer needs; `make` alone lists it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
QUICK  := $(addprefix tests/,allocators partitioners samplers trackers distill/engine distill/objectives distill/settings) \
          $(addprefix tests/test_,architecture.py checks.py files.py pool.py registry.py specs.py)

.DEFAULT_GOAL := help
.PHONY: help setup setup-bench demo figures docs lint quick test test-all test-browser attack coverage check bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## create the environment and install ARIA in it, editable

setup-bench: $(VENV)/.installed-bench  ## add the libraries ARIA is compared with

demo: $(VENV)/.installed-demo  ## distil three small students of a teacher that draws emoji; the page is demo/report.html
	$(BIN)/aria demo --output_dir demo

figures: setup  ## draw the figures of docs/theory.md again
	$(BIN)/aria-sim report --figures docs/figures

docs: setup  ## build the site in site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

quick: setup  ## a first answer within a minute: the sampler and its parts, the engine, the rules about the source
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" $(QUICK) $(ARGS)

test: setup  ## tests and doctests on every core, warnings as errors, without slow ones; ARGS adds options of pytest
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" $(ARGS)

test-all: setup  ## every test and doctest, also those that start processes, kill them, and build the site
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-browser: setup  ## open reports and site in a headless Chromium, which must be installed
	ARIA_NEEDS_BROWSER=1 $(BIN)/pytest tests/browser -n auto --dist loadfile $(ARGS)

attack: setup  ## damage runs, caches and results in 2,000 ways, and kill them: about half an hour, can be stopped
	$(BIN)/python -m tests.faults $(ARGS)

coverage: setup  ## the tests again, and which lines and branches they miss: half as long again
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term --cov-report=html $(ARGS)

check: lint test-all  ## what must pass before a change goes in

bench: setup-bench  ## time the sampler beside other libraries
	$(BIN)/python benchmarks/sampler.py

clean:  ## remove the environment, builds and caches
	rm -rf $(VENV) build dist site attacks htmlcov .coverage *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "no '$(PYTHON)' here; say which: make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "ARIA needs Python 3.11 or newer and '$(PYTHON)' is $$($(PYTHON) --version 2>&1); say which: make PYTHON=python3.12 setup" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -C editable_mode=compat -e '.[dev,docs,kmeans,sim,distill]'
	@touch $@

# What the demo needs, which is installed in less time than everything
$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	test -e $(VENV)/.installed || $(PIP) -C editable_mode=compat -e '.[sim,distill]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) -C editable_mode=compat -e '.[bench]'
	@touch $@
