# `make story` on a fresh machine: creates .venv, installs, and trains a small reasoning model.
#
#   PYTHON=...       the interpreter that .venv is made from (3.11 or newer)
#   TORCH_INDEX=...  a further package index, such as https://download.pytorch.org/whl/cpu
#   RUN=...          the folder of the run that `make shipped-model` takes
#   ARGS="..."       further arguments for the command that a target runs

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help story quick test check format docs docs-commands wheel shipped-model clean .venv

RIGHT_PYTHON := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3.11 python3; do \
	if "$$python" $(RIGHT_PYTHON) >/dev/null 2>&1; then echo "$$python"; exit; fi; done; echo python3)

BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
INSTALLED_DOCS := .venv/.installed-docs
# One worker a processor, each with one thread.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

help: ## list what there is to make
	@grep -hE '^[.a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

story: $(INSTALLED) ## train, evaluate and report the default recipe (minutes on two CPU cores)
	$(BIN)/exaone run $(ARGS)

quick: $(INSTALLED) ## the same recipe, cut down to two minutes
	$(BIN)/exaone run --quick $(ARGS)

test: $(INSTALLED_DEV) ## run the tests
	$(PYTEST) $(ARGS)

check: $(INSTALLED_DEV) ## what CI asks for: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

format: $(INSTALLED_DEV) ## format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED_DOCS) ## write the reference from the code and build docs/ as a site, build/docs/index.html
	$(BIN)/python docs/site/generate_reference.py
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs/site docs build/docs $(ARGS)
	@echo "Built: build/docs/index.html"

docs-commands: $(INSTALLED_DEV) ## run the commands and Python of README and docs/ as printed, or check them without running
	$(BIN)/python docs/site/run_doc_commands.py $(ARGS)

wheel: ## build the wheel into dist/, install it into a new environment, and use it there without a compiler
	$(PYTHON) .ci/check_wheel.py

shipped-model: $(INSTALLED) ## make the model that comes with the package from a finished run: RUN=runs/nano-exaone-deep
	$(BIN)/python ship_model.py $(RUN) $(ARGS)

.venv: $(INSTALLED_DEV) ## create or refresh the virtual environment, with what tests and checks need

# The mark `.installing` goes at the very end, so an install that was cut short is seen by the next one, which then starts
# from nothing.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) $(RIGHT_PYTHON) || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not; try: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@if [ -e .venv/.installing ]; then echo "The last install was cut short; starting again."; rm -rf .venv; fi
	@mkdir -p .venv && touch .venv/.installing
	$(PYTHON) -m venv .venv
	@echo "Installing torch and what it needs (1 of 2) ..."
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@echo "Installing Open-EXAONE and its other packages (2 of 2) ..."
	$(PIP_INSTALL) --editable .
	@touch $(INSTALLED) && rm -f .venv/.installing

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing what tests and checks need ..."
	$(PIP_INSTALL) --editable '.[dev,docs]'
	@touch $(INSTALLED_DEV)

$(INSTALLED_DOCS): $(INSTALLED)
	@echo "Installing what the site needs ..."
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $(INSTALLED_DOCS)

clean: ## remove .venv, build output and caches; runs/ stays
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +
