# Every set-up step is a file's rule: what is there and up to date is not made again.
PYTHON ?= python3
VENV ?= .venv
READERS ?= .venv-readers
JOBS ?= 2
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test full lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [FRESH=1]   the whole job on a simulated plate; prints the report's path"
	@echo "make test [JOBS=2]    the tests, in so many processes"
	@echo "make full             the tests and the long evidence"
	@echo "make lint | format    ruff and mypy | ruff format"

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cellpheno needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

# Other readers of OME-Zarr plates and of cell tables pin older packages than ours: an environment of their own.
$(READERS)/.ready: tests/plates/readers-requirements.txt
	$(PYTHON) -m venv $(READERS)
	$(READERS)/bin/python -m pip install -q -r $<
	@touch $@

demo: $(VENV)/.ready
	@$(if $(FRESH),rm -rf demo)
	@$(BIN)/cellpheno run experiment=demo

test: $(VENV)/.ready $(READERS)/.ready
	CELLPHENO_READERS_PYTHON=$(abspath $(READERS))/bin/python $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

full: $(VENV)/.ready $(READERS)/.ready
	CELLPHENO_READERS_PYTHON=$(abspath $(READERS))/bin/python $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "full or not full"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(READERS) demo build dist *.egg-info
