# make demo   the main job on real data, from nothing      make check   lint, types, fast tests: daily work
# make test   every test that needs no hardware            make bench   benchmarks, see benchmarks/README.md

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?= --quiet --disable-pip-version-check

.PHONY: demo test check lint bench clean

demo: $(VENV)/.host
	$(BIN)/edgecls demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/contract

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-group-by=group
	$(BIN)/python benchmarks/ratios.py

# One file per finished installation, so that make installs again only when setup.cfg changes.
$(VENV)/.host: setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[host]'
	@touch $@

$(VENV)/.dev: setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[host,dev]'
	@touch $@ $(VENV)/.host

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgecls needs Python 3.11 to 3.13; choose one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info demo .mypy_cache .ruff_cache .import_linter_cache
