# Each target makes the virtual environment if it is missing, installs what it needs, and does its job; a second run installs nothing.
PYTHON ?= python3
OUT ?= demo
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: help install demo test test-slow test-system bench-service soak lint clean

help:
	@echo "make demo       compare every system on MovieLens-100K: table and $(OUT)/report.html"
	@echo "make test       ruff, mypy and the fast tests"
	@echo "make test-slow  the long tests alone: kill points, learning sweeps, downloads"
	@echo "make test-system  the tests that need PostgreSQL and Chromium"
	@echo "make bench-service  the promises of the service, one after the other (a quarter of an hour)"
	@echo "make soak       the service under load for MINUTES=$(MINUTES)"
	@echo "make lint       ruff and mypy alone"
	@echo "make install    the virtual environment alone, with everything in it"
	@echo "make clean      remove the virtual environment and the caches"

install: $(DEV)

demo: $(RUN)
	@$(BIN)/tongtu demo --out $(OUT)

test: lint
	@$(BIN)/python -m pytest -m "not slow and not system"
	@echo "Left out: tests marked slow (kill points, learning sweeps, downloads), which \`make test-slow\` runs,"
	@echo "and those marked system (PostgreSQL, a browser), which \`make test-system\` runs."

test-slow: $(DEV)
	@$(BIN)/python -m pytest -m "slow and not system"

# PostgreSQL's and Chromium's programs must be on the machine (Debian: postgresql, chromium); the tests start and stop their own servers.
test-system: $(DEV)
	@$(BIN)/python -m pytest -m system

# Every drill runs, also after one whose promise was not kept; the last line names those. npx (Node) fetches autocannon for the first.
DRILLS := load overload deadline drain swaps health kill_events ready
bench-service: $(RUN)
	@missed=""; for one in $(DRILLS); do \
	    echo "== $$one"; $(BIN)/python benchmarks/service/$$one.py || missed="$$missed $$one"; \
	done; if [ -n "$$missed" ]; then echo "not kept:$$missed"; exit 1; fi

soak: $(RUN)
	@$(BIN)/python benchmarks/service/soak.py --minutes $(MINUTES)

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
	@$(PIP) --no-build-isolation --editable '.[ann,baselines,llm,serve,trust]'
	@touch $@

$(DEV): $(RUN)
	@$(PIP) --no-build-isolation --editable '.[ann,baselines,llm,pictures,serve,trackers,trust,dev]'
	@touch $@
