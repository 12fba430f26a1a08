# make help lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PROFILE ?= bundled
DATA ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE ?= 1
# threads that wait without spinning: on a shared machine spinning ones slow training several times
export OMP_WAIT_POLICY ?= passive

.PHONY: help demo test check lint types tests train challenger serve bench torture format clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## *' '{printf "  make %-10s %s\n", $$1, $$2}'

.venv/.complete: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@

demo: .venv/.complete  ## from nothing to a scored, prioritised live queue
	@$(MAKE) --no-print-directory train
	@python -m serving.demo

# small matrices: threads that spin cost a busy machine several times what they save
tests serve torture: export OPENBLAS_NUM_THREADS := 1

# freed memory stays with the process: giving it back and asking again costs training a tenth of its speed (glibc)
train challenger: export MALLOC_TRIM_THRESHOLD_ := 8589934592
train challenger: export MALLOC_TOP_PAD_ := 67108864
train challenger: export MALLOC_MMAP_THRESHOLD_ := 33554432
train: .venv/.complete  ## run the pipeline: PROFILE=bundled, or PROFILE=public DATA=folder of corpora
	@python -m pipeline.profile $(PROFILE) $(if $(DATA),--data '$(DATA)')
	@dvc repro
	@python -m training.register --alias champion --otherwise challenger --current

challenger: .venv/.complete  ## the same with what was reviewed since, beside the champion: simmer promote decides
	@dvc repro
	@python -m training.register --alias challenger

serve: .venv/.complete  ## serve the trained model over HTTP until interrupted
	@simmer serve

test: check  ## the whole suite: style, types, tests

check: lint types tests  ## style, types and tests: what CI runs

lint: .venv/.complete
	ruff format --check .
	ruff check .

types: .venv/.complete
	mypy

tests: .venv/.complete
	pytest

bench: .venv/.complete  ## measure engine, API and store beside others: a table and a plot
	@python -m benchmarks

torture: export SIMMER_TORTURE := long
torture: .venv/.complete  ## kill servers and databases under load for a long while
	@pytest tests/torture --timeout 3600

format: .venv/.complete  ## format the code and fix what ruff can fix
	ruff format .
	ruff check --fix .

clean:  ## delete what the pipeline made; the environment stays
	rm -rf build models mlruns mlflow.db metrics/plots
