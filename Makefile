# `make demo` and `make test` are all that a newcomer needs; the rest is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint bench simulate clean
install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hashmesh needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@
$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install        ## count every word of Python's standard library on three nodes
	@$(BIN)/python -P tools/demo.py

# Three at a time also on two cores: real nodes mostly wait. The tests of a file share what they started.
test: $(VENV)/.developer    ## all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile

lint: $(VENV)/.developer    ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.developer       ## the numbers in ARCHITECTURE.md and docs/operations.md
	$(BIN)/python -P tools/bench.py
	$(BIN)/python -P tools/bench_columns.py
	$(BIN)/python -P tools/bench_membership.py
	$(BIN)/python -P tools/bench_copies.py
	$(BIN)/python -P tools/bench_join.py
	$(BIN)/python -P tools/bench_fill.py
	$(BIN)/python -P tools/bench_http.py
	$(BIN)/python -P tools/bench_disk.py

simulate: install    ## seeded clusters on a broken network
	$(BIN)/python -P tools/simulate.py --seeds 500

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
