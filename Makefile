# Every target sets up .venv by itself, once; afterwards it starts at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
WORKERS ?= auto

# idle OpenMP threads should sleep: on few cores, spinning ones make torch ten times slower
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help test check demo bench tasks clean
help:
	@echo "make demo    train offline PEARL and SMAC, and draw how they adapt: a table, a picture, a page (in out/)"
	@echo "make test    the tests"
	@echo "make check   ruff and mypy"
	@echo "make bench   speed, side by side with Gymnasium, bare MuJoCo, Minari and bare matrix products"
	@echo "make tasks   write the frozen task lists anew (must change nothing)"

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(STAMP)
	$(BIN)/offlinemeta demo --out out

bench: $(STAMP)
	$(BIN)/python tests/perf/bench_envs.py
	$(BIN)/python tests/perf/bench_datasets.py
	$(BIN)/python tests/perf/bench_train.py

tasks: $(STAMP)
	$(BIN)/python -m offlinemeta.envs.freeze
	git diff --exit-code envs/tasks

clean:
	rm -rf $(VENV) build dist out *.egg-info src/*.egg-info
