# Everything a fresh machine needs: Python 3.11 or newer, make, pip and a package index.
#   make quickstart   train and judge the central model on packaged real data (minutes)
#   make test         run the tests that answer in minutes
#   make test-all     run every test: also whole rows, Ray, Slurm, a browser, a machine without a network
#   make lint         formatting, lint rules and types
#   make house        how large the source is, beside the bars it is held to

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install quickstart test test-all lint house format clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --constraint constraints.txt --editable '.[quickstart,cispliceai,r-objects,dev]'
	@touch $@

# What only tests need: rows on Ray, on Slurm's own stand-in, and logged to MLflow.
$(TESTABLE): $(INSTALLED)
	$(PIP) --constraint constraints.txt --editable '.[ray,slurm,tracking]'
	@touch $@

quickstart: install
	$(BIN)/meta-spliceai quickstart

# One thread a worker: the tests' tensors are small, and threads of several workers only get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: install
	$(PYTEST) -m "not slow"

test-all: $(TESTABLE)
	$(PYTEST)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

house: install
	$(BIN)/python tools/measure_house.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
