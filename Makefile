# What one needs to work on jobsite. `make` alone lists it; each target calls the project's own tools.
PYTHON ?= python3
BIN := .venv/bin
T ?= tests/programs/rules

.DEFAULT_GOAL := help
.PHONY: help install test one lint types demo

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/'

install: ## make .venv with everything that tests and benchmarks need
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[test,bench]'

test: ## run all tests but the slow ones
	$(BIN)/pytest

one: ## run one test, file or folder: make one T=tests/programs/rules/test_cron.py
	$(BIN)/pytest -q $(T)

lint: ## check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: ## check types
	$(BIN)/mypy

demo: ## run real jobs to their end and watch them
	$(BIN)/jobsite demo
