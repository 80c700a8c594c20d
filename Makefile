# `make demo` and `make test` each do their own set-up on a fresh machine with Python >= 3.11.
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
DEMO_OUT ?= runs/demo
# Tests that need data find it here; beside a checkout with shared/data they use that folder.
EMBODIED_MEM_DATA ?= $(firstword $(wildcard $(CURDIR)/../shared/data))
export EMBODIED_MEM_DATA

.PHONY: help demo test test-full lint types docs wheel clean
help:
	@echo "make demo       train a memory agent, evaluate it with controls, write an HTML report"
	@echo "make test       the test suite (15 to 20 minutes on two cores)"
	@echo "make test-full  the long forms, which make test leaves out"
	@echo "make lint types docs wheel"

$(VENV)/.runtime: constraints.txt pyproject.toml
	@./.ci/setup $(VENV) ""
	@touch $@

$(VENV)/.dev: constraints.txt pyproject.toml
	@./.ci/setup $(VENV) dev
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	$(BIN)/embodied-mem demo --out $(DEMO_OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not full"

test-full: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m full --junitxml build/test-full.xml
	$(BIN)/python -m embodied_mem.experiments.test_report build/test-full.xml

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy -p embodied_mem

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict --site-dir site

wheel: $(VENV)/.dev
	rm -rf dist build
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache
