# Each target makes the virtual environment if it is missing, installs what it needs, and does its job; a second run installs nothing.
PYTHON ?= python3
OUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: help install demo test test-slow lint clean

help:
	@echo "make demo       compare every system on MovieLens-100K: table and $(OUT)/report.html"
	@echo "make test       ruff, mypy and the fast tests"
	@echo "make test-slow  the long tests alone: kill points, learning sweeps, downloads"
	@echo "make lint       ruff and mypy alone"
	@echo "make install    the virtual environment alone, with everything in it"
	@echo "make clean      remove the virtual environment and the caches"

install: $(DEV)

demo: $(RUN)
	@$(BIN)/tongtu demo --out $(OUT)

test: lint
	@$(BIN)/python -m pytest -m "not slow"
	@echo "Left out: tests marked slow (kill points, learning sweeps, downloads); \`make test-slow\` runs them."

test-slow: $(DEV)
	@$(BIN)/python -m pytest -m slow

lint: $(DEV)
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# torch goes first and alone, at its exact version: an open range can pull several GB of GPU packages.
$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Tongtu needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (some minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(shell grep '^torch==' constraints.txt) setuptools
	@$(PIP) --no-build-isolation --editable '.[ann,baselines,llm,trust]'
	@touch $@

$(DEV): $(RUN)
	@$(PIP) --no-build-isolation --editable '.[ann,baselines,llm,pictures,serve,trackers,trust,dev]'
	@touch $@
