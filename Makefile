# Two commands do everything from a fresh clone: `make demo` and `make test`. The rest is for those who build headlens.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types format wheel testbed images benchmark docs clean

help:           ## What can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/run.stamp  ## The main job on the embedded testbed: locate, correct, judge, report
	$(BIN)/headlens demo

test: $(VENV)/dev.stamp  ## All tests
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/dev.stamp  ## With many machines, object storage and the browser; 10,000 odd inputs; 20 kills a command
	$(PIP) -e '.[dev-all]'
	HEADLENS_FUZZ=10000 HEADLENS_KILLS=20 $(BIN)/python -m pytest

lint: $(VENV)/dev.stamp  ## Style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## Static types
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

wheel: $(VENV)/dev.stamp ## Build the wheel, install it in an environment of its own and use it there
	rm -rf dist build/wheel-env
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-env
	build/wheel-env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build && wheel-env/bin/python -c "import headlens as hl; print(hl.__version__, hl.load('testbed').name)"
	cd build && wheel-env/bin/headlens --help > /dev/null
	build/wheel-env/bin/python -m zipfile -l dist/*.whl | awk '/^(headlens|headlens-[^ ]*dist-info)\//{n++} END {exit n != NR - 1}'

testbed: $(VENV)/run.stamp ## Train the embedded testbed models again, from their seeds
	$(BIN)/python -m tools.testbed.train --all

images: $(VENV)/run.stamp ## Draw the pictures of the docs from the demo; needs a Chrome or Chromium
	$(PIP) -e '.[figures]'
	$(BIN)/headlens demo --no-open
	$(BIN)/headlens demo --world figures --out figures-demo --no-open
	$(BIN)/python docs/make_images.py demo docs/images --figures figures-demo

benchmark: $(VENV)/run.stamp ## Measure the whole table on the testbed again, for the docs; needs a Chrome or Chromium
	$(PIP) -e '.[figures,captions]'
	$(BIN)/python docs/results/make.py build/benchmark

docs: $(VENV)/dev.stamp ## Build the documentation strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:          ## Remove what the other targets made
	rm -rf $(VENV) build dist site demo figures-demo

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headlens needs Python 3.11 or newer, but \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a minute or two) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PIP) -e '.[dev]'
	@touch $@
