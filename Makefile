# make demo    an environment, and the first experiment in it
# make test    lint, types, import rules, documentation and the fast tests
# make help    all targets

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LATEST := .venv-latest
LOGS := build/logs
# The CPU build: without a version of its own pip would fetch gigabytes of CUDA libraries.
TORCH := torch==2.13.0
FOR_TESTS := '.[dev,reference]'
REQUIREMENTS := pyproject.toml constraints.txt eir_seq/__init__.py

# $(call quietly,NAME,COMMAND): one line if it went well, everything it said if not.
define quietly
mkdir -p $(LOGS); \
if ( $(2) ) > $(LOGS)/$(1).log 2>&1 < /dev/null; then echo "$(1): ok"; \
else cat $(LOGS)/$(1).log; echo "$(1): FAILED"; exit 1; fi
endef

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint types imports fast-tests test-slow test-gpu campaign test-latest docs serve-docs wheel format clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

# ------------------------------------------------------------------------------------------------- environments

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=...")'
	@$(call quietly,environment,$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: $(REQUIREMENTS) | $(VENV)/pyvenv.cfg
	@echo "Installing eir_seq and what it needs; this takes a few minutes the first time."
	@$(call quietly,install,$(BIN)/python -m pip install -q -c constraints.txt $(TORCH) -e .)
	@touch $@

$(VENV)/.installed-dev: $(REQUIREMENTS) | $(VENV)/pyvenv.cfg
	@echo "Installing eir_seq and what its tests need; this takes a few minutes the first time."
	@$(call quietly,install-dev,$(BIN)/python -m pip install -q -c constraints.txt $(TORCH) -e $(FOR_TESTS))
	@touch $@ $(VENV)/.installed

$(LATEST)/.installed: pyproject.toml eir_seq/__init__.py
	@test -e $(LATEST)/pyvenv.cfg || $(PYTHON) -m venv $(LATEST)
	@$(call quietly,install-latest,$(LATEST)/bin/python -m pip install -q --upgrade --upgrade-strategy eager $(TORCH) -e '.[dev]')
	@touch $@

# -------------------------------------------------------------------------------------------------------- demo

demo: $(VENV)/.installed  ## run the first experiment on the reviews that ship with the package
	@$(BIN)/python -m eir_seq +experiment=imdb_longformer

# ------------------------------------------------------------------------------------------------------- checks

test:  ## all that has to pass before a commit
	@$(MAKE) --no-print-directory --keep-going lint types imports docs fast-tests

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	@$(call quietly,lint,$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .)

types: $(VENV)/.installed-dev  ## mypy, strict
	@$(call quietly,types,$(BIN)/mypy)

imports: $(VENV)/.installed-dev  ## which part may import which
	@$(call quietly,imports,$(BIN)/lint-imports --no-logo)

fast-tests: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu" < /dev/null

test-slow: $(VENV)/.installed-dev  ## the tests that take minutes
	@OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(VENV)/.installed-dev  ## what only a GPU with CUDA can show: ten minutes
	@$(BIN)/python -m pytest -m gpu

campaign: $(VENV)/.installed-dev  ## kills, full disks, damaged and hostile files: an hour, and a table of what went wrong
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaign --hour --jobs 2

test-latest: $(LATEST)/.installed  ## the tests with the newest releases of everything and without transformers; before a release
	@$(LATEST)/bin/python -m pip list 2> /dev/null | grep -E '^(huggingface_hub|tokenizers|datasets|torch|lightning|pydantic) '
	@OMP_NUM_THREADS=1 $(LATEST)/bin/python -m pytest -n 2 --dist worksteal -m "not gpu"

format: $(VENV)/.installed-dev  ## let ruff rewrite what it can
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

# ------------------------------------------------------------------------------------------- documentation, wheel

docs: $(VENV)/.installed-dev  ## the site, in site/
	@$(call quietly,docs,NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet)

serve-docs: $(VENV)/.installed-dev  ## the site while you write
	@$(BIN)/mkdocs serve

wheel: $(VENV)/.installed-dev  ## a wheel, in dist/
	@$(call quietly,wheel,$(BIN)/python -m build --wheel --no-isolation --outdir dist .)
	@ls dist/*.whl

clean:  ## everything that the other targets made, except environments and runs
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
