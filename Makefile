# Thin: each target is what CI calls too. Needs Python 3.11 or newer with pip and venv; everything else is installed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test check bench soak lock

setup: .venv/.ready

.venv/.ready: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "RECO3 needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "Installing into .venv (once, about a minute) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src .venv/lib
	@touch $@

run: setup
	@$(BIN)/reco3 demo

test: setup
	@scripts/ensure-real-parts
	@scripts/run-tests

check: setup
	@scripts/check

bench: setup
	@$(BIN)/python bench/run.py $(ARGS)

soak: setup
	@RECO3_SOAK=1 $(BIN)/pytest -m "slow or not slow" --timeout=3600

lock:
	@$(PYTHON) scripts/lock.py
