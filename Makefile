# The few commands of this project. `make demo` and `make test` set up everything they need, once.
# Needs make and a Python from 3.10 to 3.13; everything else is installed below this folder.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; exit; }; done)

VENV := .venv
BIN := $(VENV)/bin
NODE := local/azure/node_modules/.installed
SDK := .venv-sdk

.DEFAULT_GOAL := help
.PHONY: help venv node lint types unit e2e test nightly fix manifest docs examples playbooks pictures browser demo drills warroom sdk validate pack bench clean

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python from 3.10 to 3.13 was found; name one with make PYTHON=..."; exit 1; }
	@echo "Setting up Python packages in $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

node: $(NODE)
$(NODE): local/azure/package.json local/azure/package-lock.json | $(VENV)/.installed
	@echo "Setting up the local Azure's Node packages (once)"
	@cd local/azure && ../../$(BIN)/npm ci --no-audit --no-fund --loglevel=error
	@touch $@

lint: venv ## style and mistakes that a linter sees
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: venv ## mypy, strict
	@$(BIN)/mypy

unit: venv ## tests that need no server
	@$(BIN)/python -m pytest AzureStorage_test.py

e2e: venv node ## tests against the local Azure
	@$(BIN)/python -m pytest local/tests --numprocesses 2 --dist loadfile

test: lint types unit e2e ## everything a change must pass

nightly: venv ## the tests of properties with more than 100,000 examples, new ones each time
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest local/tests/test_properties.py

fix: venv ## format, and mend what can be mended
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

manifest: venv ## write AzureStorage.yml, the reference in docs/ and the playbooks from the code and its texts
	@$(BIN)/python -m local.build.manifest
	@$(BIN)/python -m local.build.playbooks

docs: manifest ## the same as manifest

examples: venv node ## run the examples and walkthroughs of docs/ again and keep their output
	@$(BIN)/python -m local.build.examples
	@$(BIN)/python -m local.build.manifest

playbooks: venv ## write the playbooks of pack/ and their READMEs from local/build/playbook_sources
	@$(BIN)/python -m local.build.playbooks

pictures: venv node ## make the pictures of README.md from real runs
	@$(BIN)/python -m local.build.pictures

browser: venv node ## reports and sign-ins in a real browser, with screenshots in dist/screenshots
	@$(BIN)/python -m local.browser

demo: venv node ## sign in and run commands against an Azure on this machine
	@$(BIN)/python -m local.xsoar.demo

drills: venv node ## all playbooks, step by step, against the same Azure
	@$(BIN)/python -m local.xsoar.drills $(ARGS)

warroom: venv node ## the same Azure, with a prompt
	@$(BIN)/python -m local.xsoar.warroom --local

sdk: $(SDK)/.installed
$(SDK)/.installed:
	@test -n "$(PYTHON)" || { echo "No Python from 3.10 to 3.13 was found; name one with make PYTHON=..."; exit 1; }
	@echo "Setting up demisto-sdk in $(SDK) (once)"
	@$(PYTHON) -m venv $(SDK)
	@$(SDK)/bin/python -m pip install --quiet --disable-pip-version-check "demisto-sdk>=1.39.13,<2" "setuptools<81"
	@touch $@

validate: venv sdk ## demisto-sdk validate with every rule that works without a network
	@$(BIN)/python -m local.build.pack validate

pack: venv sdk ## dist/AzureStorage.zip, the pack, and dist/AzureStorage.yml, the integration alone
	@$(BIN)/python -m local.build.pack build

bench: venv node ## measurements side by side with a peer, printed as ratios
	@for name in start command_cost drill blobs memory; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean: ## remove what was installed and built
	@rm -rf $(VENV) $(SDK) dist local/azure/node_modules .mypy_cache .pytest_cache .ruff_cache
