# `make search` and `make test` set up everything by themselves: in .venv, with the versions that constraints.txt names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
ARGS ?=
# tests/helpers/longest.py says in which order processes take the modules, which pytest-xdist would begin with those of many tests.
JOBS ?= logical
PYTEST = pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder
METADATA := pyproject.toml
# As pip does: each trial is a process that imports torch and NNI, which takes twice as long where nothing is compiled.
export UV_COMPILE_BYTECODE := 1

.PHONY: search test test-fast test-newest test-oldest lint format types unit mistakes tutorial docs release-check lock clean
.PRECIOUS: %/bin/pip %/bin/uv

search: $(VENV)/ready
	@$(BIN)/nni-knas search $(ARGS)

test: lint types unit

lint: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pre-commit validate-config

# Mends what `make lint` finds, where that can be done by itself.
format: $(VENV)/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/ready-test
	$(BIN)/mypy

# What of the package the tests run, by branches; of a part of them it would say nothing.
COVERAGE = $(if $(strip $(ARGS)),,--cov)

unit: $(VENV)/ready-test
	$(BIN)/$(PYTEST) $(COVERAGE) $(ARGS)

# Without NNI's manager, browsers and long trainings.
test-fast: $(VENV)/ready-test
	$(BIN)/$(PYTEST) -m 'not slow' $(ARGS)

# The page of mistakes and what is said of them, from what the tests see.
mistakes: $(VENV)/ready-test
	$(BIN)/pytest -q --write-mistakes tests/test_mistakes.py

# The tutorial's outputs, which the site shows, from a search that it runs.
tutorial: $(VENV)/ready-test
	$(BIN)/python docs/building/tutorial.py

# The documentation site, in site/. It reads the package, and imports neither torch nor NNI: an environment of its own has neither.
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@echo 'The site begins with site/index.html'

# Wheel and sdist, each in an empty environment outside of the checkout, with a search there.
release-check: | $(BIN)/uv
	.ci/release-check $(BIN)/uv $(BIN)/python

# With the newest of everything that pyproject.toml allows, and with the oldest of what it names.
test-newest: | .venv-newest/bin/uv
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python --upgrade -e '.[test]'
	.venv-newest/bin/$(PYTEST) $(ARGS)

test-oldest: .venv-oldest/ready
	.venv-oldest/bin/$(PYTEST) $(ARGS)

# The versions for `make search` and `make test`, made anew from pyproject.toml: the newest that go together. With UPGRADE= those
# that constraints.txt has stay, and what pyproject.toml names beside them is added.
UPGRADE := --upgrade
lock: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --python $(BIN)/python --universal --python-version 3.10 $(UPGRADE) --all-extras \
		--no-annotate --custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml

%/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo 'nni-knas needs Python 3.10 to 3.12; say which with: make PYTHON=python3.11 ...'; exit 1; }
	$(PYTHON) -m venv $*

# uv takes a minute where pip takes several, but only pip heeds a pip.conf: where uv cannot be had or fails, pip does it.
%/bin/uv: | %/bin/pip
	-$*/bin/pip install --quiet --disable-pip-version-check uv==$(UV)

install = @echo 'Setting up $(VENV) (this takes some minutes the first time)'; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' || \
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'

$(VENV)/ready: EXTRAS = green,report
$(VENV)/ready: $(METADATA) constraints.txt | $(BIN)/uv
	$(install)
	@touch $@

$(VENV)/ready-test: EXTRAS = test
$(VENV)/ready-test: $(METADATA) constraints.txt | $(BIN)/uv
	$(install)
	@touch $@ $(VENV)/ready

.venv-docs/ready: $(METADATA) constraints.txt | .venv-docs/bin/pip
	$(eval WANTED := $(shell sed -n '/^docs = \[/,/^\]/s/^ *"\([^"]*\)".*/"\1"/p' pyproject.toml))
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -c constraints.txt $(WANTED)
	@touch $@

.venv-oldest/ready: $(METADATA) | .venv-oldest/bin/uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --upgrade --resolution lowest-direct -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest .venv-docs build dist site *.egg-info
