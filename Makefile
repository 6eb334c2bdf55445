# `make demo` and `make test` do everything on a fresh machine; `make setup` alone prepares .venv.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.setup-stamp
# The checkout is the package, so its own folders must not be found as top-level `app`, `engine`, ...
export PYTHONSAFEPATH := 1
# Without byte-code caches every process of the tests would compile torch and lightning again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test check format types contracts tests bench lock screenshots clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock setup.py tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $@

demo: setup
	@$(BIN)/wavedeck demo $(if $(HEADLESS),--headless,)

test: check tests

check: setup format types contracts

format: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy --cache-dir "$${TMPDIR:-/tmp}/wavedeck-mypy-$$(id -u)"

contracts: setup
	$(BIN)/lint-imports --no-cache

tests: setup
	@bash tools/setup.sh test-packages
	$(BIN)/pytest -q -n 3 --dist loadgroup

bench: setup
	$(BIN)/python -m wavedeck.benchmarks

screenshots: setup
	$(BIN)/python tools/screenshots.py

lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --universal --no-emit-index-url --no-header --no-annotate -q -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra train --extra wandb --constraint requirements.lock --python-version 3.11 --universal --no-emit-index-url --no-header --no-annotate -q -o assets/train.lock

clean:
	rm -rf $(VENV) build *.egg-info
