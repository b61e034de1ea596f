# Everything a person types. `make run` and `make test` are the README's two commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check nano install install-test clean help

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.installed ## install if needed and start the daemon in the foreground
	@exec $(BIN)/dreamloopd --config config.toml

test: $(VENV)/.installed-test ## install what tests need; lint, type-check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.installed-test ## the quick part of `make test`: no whole-loop runs
	$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not loop"

nano: $(VENV)/.installed ## train the embedded model again (about half an hour)
	$(BIN)/python -m daemon.models.nano

install: $(VENV)/.installed ## make .venv and install dreamloop into it
install-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by itself: an unpinned torch pulls in gigabytes of CUDA that a laptop has no use for (FACTS).
# On a GPU machine, install the torch build you want into .venv before `make run`; pip keeps it.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

clean: ## remove .venv and caches (not your state folder)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
