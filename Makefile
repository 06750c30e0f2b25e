# `make` lists the targets. Everything is installed into .venv; nothing needs activating.

BIN := .venv/bin
OUT ?= out
OLDEST := .venv-oldest
# options of pytest; for one process and one file: make test PYTEST_ARGS="-x tests/core"
PYTEST_ARGS ?= -n auto
# where processes are started: all tests would do, and take long
SPAWN_TESTS ?= tests/solvers tests/studies/race tests/training/calibrate tests/face/test_kills.py \
    tests/face/test_race_command.py tests/face/test_plan_command.py tests/core/test_rows.py
# which timings: those marked slow only when asked for
BENCH_ARGS ?= -m "not slow"

# one thread for each process: the tests run side by side, and timings are of one thread
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

CORE := .venv/.stamp-core
TRAIN := .venv/.stamp-train
DEV := .venv/.stamp-dev
INPUTS := pyproject.toml constraints.txt .ci/setup

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo docs test test-oldest test-spawn test-wheel lint types layers format bench clean dist

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV) ## .venv with the extras train, logs, dev and cyipopt

# planning needs no torch: the plan is printed while the extra `train` is still being installed
demo: $(CORE) ## plan, compare, fine-tune by a plan; one page of it in out/demo
	@$(BIN)/sftopt demo --out $(OUT)/demo --setup "$(MAKE) --no-print-directory $(TRAIN)"

test: lint types layers ## lint, types, layers, then the tests
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

test-oldest: $(OLDEST)/.stamp ## split model and codec on the oldest transformers and peft supported
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/training/split

# what solvers, races, calibrations and commands do where nothing is forked, as on macOS
test-spawn: $(DEV) ## the tests of processes with nothing forked, as on macOS
	SFTOPT_FORK=0 $(BIN)/python -m pytest -q --timeout 1200 $(PYTEST_ARGS) $(SPAWN_TESTS)

# an overlay over .venv: what it does not hold is .venv's
$(OLDEST)/.stamp: $(DEV)
	rm -rf $(OLDEST)
	$(BIN)/pip install -q --target $(OLDEST) "transformers==5.0.0"
	$(BIN)/pip install -q --target $(OLDEST) --no-deps "peft==0.18.0"
	rm -rf $(OLDEST)/numpy $(OLDEST)/numpy-* $(OLDEST)/numpy.libs
	@touch $@

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy

layers: $(DEV) ## import-linter: who may import whom
	$(BIN)/lint-imports

format: $(DEV) ## let ruff mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.stamp-docs ## documentation site in out/docs, tutorials executed
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/sphinx-build -q -W --keep-going -b html docs $(OUT)/docs
	@echo "$$(wc -l < $(OUT)/docs/outside-links.txt) links lead outside: $(OUT)/docs/outside-links.txt"
	@echo "open $(OUT)/docs/index.html"

.venv/.stamp-docs: $(DEV)
	$(BIN)/pip install -q --disable-pip-version-check --constraint constraints.txt -e '.[docs]'
	@touch $@

bench: $(DEV) ## timings, and what got slower since the committed ones; all of them: make bench BENCH_ARGS=
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest -q --benchmark-enable --benchmark-only --benchmark-json=$(OUT)/bench.json \
	    $(BENCH_ARGS) benchmarks/timings
	$(BIN)/python -m benchmarks.timings.against_last $(OUT)/bench.json

test-wheel: $(DEV) ## the built wheel in clean environments of Python 3.11, 3.12 and 3.13
	.ci/wheels

dist: $(DEV) ## sdist and wheel into dist/
	$(BIN)/python -m build

clean: ## remove builds, caches and .venv
	rm -rf .venv $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
	    .hypothesis .benchmarks
	find sftopt tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(CORE): $(INPUTS)
	.ci/setup core
	@touch $@

$(TRAIN): $(CORE)
	.ci/setup train
	@touch $@

# the larger set-up holds the smaller ones
$(DEV): $(INPUTS)
	.ci/setup dev
	@touch $(CORE) $(TRAIN) $@
