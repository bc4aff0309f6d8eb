# Every target sets up .venv by itself, once; afterwards it starts at once. The demo needs less than the tests do.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
FOR_DEMO := $(VENV)/installed-for-demo
FOR_ALL := $(VENV)/installed-for-all
# what is never imported need not be compiled, which takes longer than all else in an installation
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e
WORKERS ?= auto

# idle OpenMP threads should sleep: on few cores, spinning ones make torch ten times slower
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help test check demo docs bench tasks clean
help:
	@echo "make demo    train offline PEARL and SMAC, and draw how they adapt: a table, a picture, a page (in out/)"
	@echo "make test    the tests"
	@echo "make check   ruff and mypy"
	@echo "make docs    the documentation's site, in out/docs; warnings are errors"
	@echo "make bench   speed: of each step alone, kept in out/benchmarks and compared with the last time; then side by"
	@echo "             side with Gymnasium, bare MuJoCo, Minari and bare matrix products"
	@echo "make tasks   write the frozen task lists anew (must change nothing)"
	@echo "make clean   remove .venv and all that was built"

$(BIN)/pip: # the last thing that a new environment gets
	$(PYTHON) -m venv $(VENV)

$(FOR_DEMO): pyproject.toml setup.py constraints.txt | $(BIN)/pip
	$(INSTALL) '.[baselines,plots]'
	@touch $@

$(FOR_ALL): pyproject.toml setup.py constraints.txt | $(BIN)/pip
	$(INSTALL) '.[all,dev]'
	@touch $(FOR_DEMO) $@

test: $(FOR_ALL)
	$(BIN)/pytest -n $(WORKERS)

check: $(FOR_ALL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(FOR_DEMO)
	$(BIN)/offlinemeta demo --out out

docs: $(FOR_ALL)
	$(BIN)/python docs/site/build.py
	@echo "Open out/docs/index.html, or: $(BIN)/python -m http.server -d out/docs"

# the first time has nothing to compare with
bench: $(FOR_ALL)
	$(BIN)/pytest tests/perf --confcutdir=tests/perf -n 0 --benchmark-only --benchmark-autosave --benchmark-storage=out/benchmarks \
		$(if $(wildcard out/benchmarks/*/*.json),--benchmark-compare)
	$(BIN)/python tests/perf/bench_envs.py
	$(BIN)/python tests/perf/bench_datasets.py
	$(BIN)/python tests/perf/bench_train.py

tasks: $(FOR_ALL)
	$(BIN)/python -m offlinemeta.envs.freeze
	git diff --exit-code envs/tasks

clean:
	rm -rf $(VENV) build dist out *.egg-info src/*.egg-info
