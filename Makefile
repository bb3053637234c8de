PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
STAMP := $(VENV)/.installed
# Two workers with torch's threads in each would wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := setup
.PHONY: setup demo test test-all lint docs format clean

setup: $(STAMP)

# torch goes first and alone: whatever asks for it next finds the pinned build in place.
$(STAMP): pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m examples.demo

# What a change can break, in minutes.
test: setup
	$(PYTEST)

# After that the exhaustive rest: all of torchvision, thousands of networks, Ray, torchrun, a browser.
test-all: test
	$(PYTEST) -m exhaustive

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pages in build/docs/index.html.
docs: setup
	$(BIN)/python -m sphinx --builder html --quiet --fail-on-warning --keep-going docs build/docs

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The environment stays: it takes minutes to make again.
clean:
	rm -rf build dist demo *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find td_transform benchmarks tools examples tests -name __pycache__ -prune -exec rm -rf {} +
