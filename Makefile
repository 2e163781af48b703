# confidential.containers: two commands to start with.
#
#   make demo   sets up everything, starts the lab, runs playbooks/site.yml on inventories/lab, shows the verdict
#   make test   sets up everything, runs every test
#
# Everything lives below this directory (.venv, .collections, .lab), except the lab's programs, which are built once into
# ${XDG_CACHE_HOME:-~/.cache}/coco-lab.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
LINK := .collections/ansible_collections/confidential/containers

# No pyenv shims before the environment's programs; nothing of the user's Ansible configuration.
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export ANSIBLE_HOME := $(CURDIR)/.ansible
export PYTHONDONTWRITEBYTECODE :=
LAB := $(BIN)/python -m lab
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test lint unit contract lab-test integration sanity matrix molecule bench lab-up lab-down clean constraints docs

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.txt requirements-dev.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "setup: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "setup: Python environment in $(VENV) ($$($(PYTHON) --version)); about one minute the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r requirements-dev.txt \
		| sed -u -nE 's/^(Collecting|Installing collected).*/&/p' | awk '{n++; if (n % 10 == 0) {print "setup: " n " packages"; fflush()}}'
	@touch $@

$(LINK):
	@mkdir -p $(dir $(LINK)) && ln -sfn ../../.. $(LINK)

setup: $(READY) $(LINK) ## Set up the Python environment and the collection link

lab-up: setup ## Start the lab
	@$(LAB) up

lab-down: setup ## Stop the lab
	@$(LAB) down

demo: setup ## Start the lab, run the site playbook on it, show the verdict
	@$(LAB) up
	@$(BIN)/ansible-playbook -i inventories/lab playbooks/site.yml

lint: setup ## Style, types, documentation
	@echo "lint: ruff";            $(BIN)/ruff check .
	@echo "lint: yamllint";        $(BIN)/yamllint .
	@echo "lint: mypy";            $(BIN)/mypy plugins/module_utils lab
	@echo "lint: ansible-lint";    $(BIN)/ansible-lint --offline -q
	@echo "lint: antsibull-docs";  $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .
	@echo "lint: changelog";       $(BIN)/antsibull-changelog lint

unit: setup ## Unit tests
	@$(PYTEST) tests/unit

contract: setup ## What the real KBS does, against lab-kbs
	@$(PYTEST) tests/contract

lab-test: setup ## The lab's own tests
	@$(PYTEST) tests/lab

integration: setup ## The roles on the lab
	@$(PYTEST) tests/integration

sanity: setup ## ansible-test sanity, without ignores
	@tests/sanity.sh

test: setup ## Every test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory sanity
	@$(PYTEST) tests/unit tests/contract tests/lab tests/integration

matrix: setup ## The site run, each step alone and a killed run, in every release that the lab has
	@for release in 1.9/0.3 1.11/1.0 1.12/1.1 1.13/1.2; do echo "matrix: $$release"; \
		LAB_RELEASE_IN_FULL=$$release $(PYTEST) tests/integration/test_site.py tests/integration/test_steps.py || exit 1; done

molecule: setup ## The molecule scenarios, each on a lab of its own
	@$(BIN)/molecule test --all

bench: setup ## Performance, measured
	@$(BIN)/python -m tests.bench

docs: setup ## Write the generated documentation (docs/variables.md, roles/*/README.md)
	@$(BIN)/python -m tests.docs

constraints: ## Renew constraints.txt from the present environment
	@$(BIN)/python -m pip freeze | sed 's/^ansible-core==.*/&; python_version < "3.12"/' > constraints.txt

clean: ## Stop the lab and remove what setup made (not the cached lab programs)
	@test ! -x $(BIN)/python || $(LAB) down
	@rm -rf $(VENV) .collections .lab .ansible
