# What a contributor types. Everything runs in .venv, which the first target that needs it makes.
# Another Python: make PYTHON=python3.13 (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format docs bench clean

help:  ## say what each target does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{printf "%-18s %s\n", $$1, $$2}'

demo: $(READY)  ## press a small digit classifier and show the report
	@$(BIN)/onnxpress demo digits -o build/demo

test: check  ## check, then every test that is neither slow nor needs a GPU
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-slow: $(READY)  ## the slow tests
	@$(BIN)/pytest -m "slow and not gpu" --timeout 1500 --numprocesses 2 --dist worksteal || { status=$$?; \
	  [ $$status -eq 5 ] && echo "there are no slow tests yet" || exit $$status; }

check: $(READY)  ## formatter, linter, types and floors; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## write anew what docs/ says of passes' docstrings and of benchmarks' figures
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/quantization_tables.py
	$(BIN)/python docs/providers_page.py

bench: $(READY)  ## every benchmark, one after another
	@for file in $(sort $(wildcard benchmarks/bench_*.py)); do \
	  echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## remove what was built; .venv stays
	rm -rf build dist examples/*/build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp is the last step, so a set-up that fails halfway runs again.
# torch comes first and by its version: an unpinned one can bring gigabytes of GPU packages.
# torchvision only lends its architectures to tests and benchmarks, hence without dependencies.
# onnx2tf pins other versions than ours of all that it needs: see docs/exporting.md.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onnxpress needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@rm -f $@
	@echo "Setting up .venv (minutes the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[all,dev]'
	@$(PIP) --no-deps torchvision==0.28.0
	@$(PIP) --no-deps --ignore-requires-python onnx2tf==2.6.9 tf-keras==2.21.0
	@touch $@
