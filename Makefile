# The commands of this project. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

LAB_HOME ?= $(HOME)/.cache/integr8scode-lab
export LAB_HOME

VENV := $(CURDIR)/.venv
PYTHON := $(VENV)/bin/python
PLAYBOOK := $(VENV)/bin/ansible-playbook
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help: ## what there is
	@echo 'make …'
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Its own stamp says for which requirements.txt it was made; the script does nothing when that fits.
.PHONY: venv
venv: ## the Python environment (.venv) with Ansible in it
	@lab/environment.sh $(VENV)

.PHONY: lab
lab: venv ## lab servers on this machine, provisioned, with the default release running
	$(PYTHON) -m lab prepare
	$(PLAYBOOK) -i inventories/lab lab/create.yml
	$(PLAYBOOK) -i inventories/lab playbooks/bootstrap.yml
	$(PLAYBOOK) -i inventories/lab playbooks/site.yml
	@$(PYTHON) -m lab summary

.PHONY: lab-prepare
lab-prepare: venv ## only what lab servers need: engine, images, registry, file server
	$(PYTHON) -m lab prepare

.PHONY: lab-down
lab-down: venv ## remove the lab and nothing else; built things are kept
	@$(PYTHON) -m lab down

.PHONY: lab-clean
lab-clean: venv ## remove the lab and everything that it ever built or downloaded
	@$(PYTHON) -m lab clean

.PHONY: test
test: venv ## the checks that CI runs, with counts
	@$(PYTHON) -m lab test

.PHONY: test-long
test-long: venv ## everything, with the full windows of soak and fault runs
	@$(PYTHON) -m lab test --long

.PHONY: lint
lint: venv ## ruff, mypy, yamllint, ansible-lint, shellcheck
	@$(PYTHON) -m lab test lint

.PHONY: unit
unit: venv ## unit tests: no server, no Docker
	@$(PYTHON) -m lab test unit

.PHONY: molecule
molecule: venv ## one Molecule scenario: make molecule SCENARIO=docker
	@test -n '$(SCENARIO)' || { echo 'say which: make molecule SCENARIO=…, one of:' $(notdir $(patsubst %/,%,$(dir $(wildcard molecule/*/molecule.yml)))); exit 2; }
	@$(PYTHON) -m lab test '$(SCENARIO)'

.PHONY: docs
docs: venv ## docs/variables.md anew from the roles' argument specifications
	@$(PYTHON) -m lab docs

.PHONY: requirements
requirements: venv ## requirements.txt anew from pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command 'make requirements' --group dev pyproject.toml --output-file requirements.txt
