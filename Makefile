# headrace: every target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo check test bench docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench,track,tune]'
	touch $(READY)

demo: $(READY)
	$(BIN)/headrace demo --out runs/demo

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

test: check
	$(BIN)/pytest --doctest-modules src
	$(BIN)/pytest -n 2 -m "not slow" tests

bench: $(READY)
	$(BIN)/pytest -m slow tests
	$(BIN)/python bench/run.py

docs: $(READY)
	$(BIN)/python bench/tables.py

clean:
	rm -rf $(VENV) runs build dist
