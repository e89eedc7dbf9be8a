# Everything here works on a fresh machine that has only Python (and, for `test-all`, Node and Go).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
# Trust what the machine trusts, as pip does: a company proxy has a certificate of its own.
export UV_SYSTEM_CERTS ?= 1

.PHONY: install demo test test-all lint types unit slow bench docs clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "otel-cost needs Python 3.10 or newer; name one with PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[all]' --group dev
	touch $(STAMP)

demo: install
	$(BIN)/otel-cost demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

test: lint types unit

test-all: test slow

slow: install
	$(BIN)/pytest -n $(WORKERS) -m slow

bench: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group bench
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

docs: install
	$(BIN)/python -m tests.docs.generate

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
