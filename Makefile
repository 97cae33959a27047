# `make search` and `make test` set up everything by themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= auto

.PHONY: search test lint types unit clean

search: $(VENV)/ready
	@$(BIN)/nni-knas search $(ARGS)

test: $(VENV)/ready-test lint types unit

lint: $(VENV)/ready-test
	$(BIN)/ruff check .

types: $(VENV)/ready-test
	$(BIN)/mypy

unit: $(VENV)/ready-test
	$(BIN)/pytest -n $(JOBS) --dist loadscope $(ARGS)

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo 'nni-knas needs Python 3.10 to 3.12; say which with: make PYTHON=python3.11 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: setup.py | $(VENV)/bin/pip
	@echo 'Setting up $(VENV) (this takes some minutes the first time)'
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[green,report]'
	@touch $@

$(VENV)/ready-test: setup.py | $(VENV)/bin/pip
	@echo 'Setting up $(VENV) for the tests (this takes some minutes the first time)'
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/ready

clean:
	rm -rf $(VENV) build dist *.egg-info
