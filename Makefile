# make demo   the main job on real data, from nothing      make check   lint, types, fast tests: daily work
# make test   every quick test, none needs hardware        make test-slow   the rest: long trainings, many processes
# make bench  benchmarks, see benchmarks/README.md
# make dist   wheel and source archive, checked and used   make test-arm64   that wheel on emulated 64-bit Arm
# make test-arithmetic   the tests that compute, with the arithmetic of other processors

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?= --quiet --disable-pip-version-check

.PHONY: demo test test-slow test-arithmetic check lint bench dist test-arm64 clean

demo: $(VENV)/.host
	$(BIN)/edgecls demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# VARIANT="SSE4" runs that one alone; python -m tests.arithmetic lists them.
test-arithmetic: $(VENV)/.dev
	$(BIN)/python -m tests.arithmetic $(if $(VARIANT),"$(VARIANT)")

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/contract

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# KEEP=NAME stores the figures as benchmarks/reference/NAME.json. A missed target fails after that.
bench: $(VENV)/.dev
	@mkdir -p build/bench
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only --benchmark-group-by=group \
	  --benchmark-json=build/bench/rows.json
	$(BIN)/python -m benchmarks.ratios --json build/bench/ratios.json; missed=$$?; \
	  $(BIN)/python -m benchmarks.reference_file build/bench/rows.json build/bench/ratios.json \
	    $(if $(KEEP),--write $(KEEP)) && exit $$missed

# setuptools would reuse an old list of sources.
dist: $(VENV)/.dist
	rm -rf dist edgecls.egg-info
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/package/contents.py dist
	bash tests/package/use.sh $(BIN)/python dist

# Needs Linux, QEMU and mmdebstrap, and reports what is missing; see docs/raspberry-pi.md.
test-arm64: dist
	$(BIN)/python -m tests.device.arm64 --wheel dist/edgecls-*.whl

# One file per finished installation, so that make installs again only when setup.cfg changes.
$(VENV)/.host: setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[host]'
	@touch $@

$(VENV)/.dist: setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[dist]'
	@touch $@

$(VENV)/.dev: setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[host,dev,dist]'
	@touch $@ $(VENV)/.host $(VENV)/.dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgecls needs Python 3.11 to 3.13; choose one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info demo .mypy_cache .ruff_cache .import_linter_cache
