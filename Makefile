# Every target makes what it needs: a .venv from requirements.lock, with nothing but Python 3.11 or newer.
# ARGS are handed to the program, for example: make demo ARGS="--headless --until-alert"

SHELL  := /bin/sh
ARGS   ?=
PYTHON ?=
READY  := .venv/.ready
LOCK   := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo dashboard test test-real lint bench bench-alerts lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec leaves no shell in between: Ctrl-C reaches the program once, and make ends when it has ended.
demo: $(READY) ## the product at work: simulated chatbot, broker, store, worker, dashboard
	@exec .venv/bin/recallwatch demo $(ARGS)

dashboard: $(READY) ## the dashboard on your own store
	@exec .venv/bin/recallwatch dashboard $(ARGS)

test: $(READY) ## the tests; what needs Java, redis-server or Chromium is skipped where they lack
	@exec .venv/bin/python -m pytest $(ARGS)

test-real: $(READY) ## the tests, where a skipped one counts as failed
	@exec env RECALLWATCH_REQUIRE_REAL=1 .venv/bin/python -m pytest $(ARGS)

lint: $(READY) ## ruff, mypy --strict, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: $(READY) ## the performance table of the README
	@exec .venv/bin/python -m benchmarks $(ARGS)

bench-alerts: $(READY) ## the alerts against their target figures, beside other detectors
	@exec .venv/bin/python -m benchmarks alerts $(ARGS)

lock: $(READY) ## resolve the dependencies of pyproject.toml again
	$(LOCK) --upgrade --extra embedded --extra dev --extra fast pyproject.toml --output-file requirements.lock
	$(LOCK) --constraint requirements.lock pyproject.toml --output-file requirements-runtime.lock

clean: ## remove .venv, caches and build results
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A candidate may be a shim that cannot start, or the python of an active environment (even of the
# one about to be replaced): each is run, and answers with the interpreter that it is based on.
$(READY): pyproject.toml requirements.lock
	@for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  base=$$($$candidate -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null) && break; \
	  base=; \
	done; \
	if [ -z "$$base" ]; then \
	  echo "Recallwatch needs Python 3.11 or newer, and none was found on the PATH." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; \
	fi; \
	if ! "$$base" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$base cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; \
	fi; \
	echo "Making .venv with $$base: a minute or two, once."; \
	"$$base" -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
