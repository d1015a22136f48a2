# make demo   train three models on the built-in dataset, compare them, draw their predictions
# make test   ruff, mypy and the tests
# make gpu    the tests and benchmarks that need a GPU, in 15 minutes; results in experiments/results/gpu
# They create .venv if it is missing, and install again only when the requirements have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test gpu install

demo: $(STAMP)
	$(BIN)/gatedcrf reproduce table1 --dataset shapes --runs runs/demo \
	    --cells clicks/pCE clicks/GCRF_s full/pCE

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

gpu: $(STAMP)
	$(BIN)/gatedcrf benchmark gpu

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:3]; sys.exit(None if (3, 11, 4) <= v < (3, 13) else \
	    "Python 3.11.4 to 3.12 is needed, not %d.%d.%d; name one: make PYTHON=python3.12" % v)'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
