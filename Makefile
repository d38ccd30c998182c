PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests start some hundred Pythons, and each would compile the packages that it imports.
unexport PYTHONDONTWRITEBYTECODE

# `make test` makes `check` beside `lowest` and `collected`.
MAKEFLAGS += --jobs=2

.DEFAULT_GOAL := help
.PHONY: help venv check lowest collected test test-all faults mutants demo bench bench-all bench-quick clean

help: ## what one can do here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# The oldest SQLAlchemy and pydantic that an application may have. All else comes from the other environment.
LOWEST ?= $(VENV)-lowest
LOWEST_READY := $(LOWEST)/.ready
SITE_OF = $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
$(LOWEST_READY): $(READY)
	test -d $(LOWEST) || $(PYTHON) -m venv --without-pip $(LOWEST)
	$(BIN)/python -m pip --python $(LOWEST)/bin/python install --quiet --disable-pip-version-check 'sqlalchemy==2.0.40' 'pydantic==2.12.0'
	echo "import site; site.addsitedir('$(call SITE_OF,$(VENV))')" >"$(call SITE_OF,$(LOWEST))/newest.pth"
	touch $@

venv: $(READY) ## makes the virtual environment

check: $(READY) ## style, types, the rule of who imports whom, and that the modes do not repeat each other
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.tree

lowest: $(LOWEST_READY) ## every statement under the oldest SQLAlchemy: its text is the same; payloads under the oldest pydantic; seconds
	$(LOWEST)/bin/python -m pytest -q -p no:cacheprovider tests/postgres/test_statements.py tests/core/tasks/test_changes.py tests/core/tasks/test_codec.py

# Compiles all tests beside `check`: the process that collects them for a run has a processor to itself, and another is idle.
collected: $(READY)
	$(BIN)/python -m pytest -qqq --collect-only

test: check lowest collected ## everything, on an embedded Postgres or on FANG_TEST_DATABASE_URL
	$(BIN)/python -m pytest -n auto --dist loadfile

PG15 ?= /usr/lib/postgresql/15/bin
test-all: check lowest collected ## the tests against Postgres 15 and 18, and those of the database under the oldest SQLAlchemy
	@if test -x $(PG15)/postgres; then FANG_TEST_PG_BIN=$(PG15) $(BIN)/python -m pytest -n auto --dist loadfile; else echo 'Postgres 15 is not here ($(PG15)): not tested against it'; fi
	$(BIN)/python -m pytest -n auto --dist loadfile
	$(LOWEST)/bin/python -m pytest -n auto --dist loadfile -p no:cacheprovider tests/postgres tests/conformance tests/threaded tests/async

faults: $(READY) ## real processes under every fault, in both modes; writes the table of docs/faults.md (SEED= repeats); the tests that are long; each property with more examples
	$(BIN)/python -m tests.faults
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -n auto --dist loadfile --hypothesis-profile thorough tests/core tests/postgres/test_urls.py

mutants: $(READY) ## shows that faults and tests can fail: builds defects into copies of the product
	$(BIN)/python -m tests.faults.mutants

demo: $(READY) ## the main job on real input, on an embedded Postgres, with the page; CHAOS=1 kills worker processes
	$(BIN)/fang demo --picture docs/overview.png $(if $(CHAOS),--chaos)

bench: $(READY) ## ours beside its peers, about ten minutes; ARGS=--write updates docs/benchmarks.md
	$(BIN)/python -m benchmarks compare $(ARGS)

bench-all: $(READY) ## also slower peers, and ours in many situations; an hour; SCALE=0.1 for less, ARGS=--huge for more
	$(BIN)/python -m benchmarks compare all --more $(ARGS)

REF ?= HEAD
bench-quick: $(READY) ## the working tree beside the commit REF, in a minute
	$(BIN)/python -m benchmarks.quick $(REF) $(ARGS)

clean: ## removes the virtual environment and caches
	rm -rf $(VENV) $(LOWEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
