# Two commands do all the set-up: `make demo` and `make test`. Everything is installed into .venv, in this folder.
PYTHON ?= python3
# TORCH=cpu installs torch without the CUDA libraries.
TORCH ?= default
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(TORCH)
ARGS ?=

export HF_HUB_OFFLINE ?= 1
# A process that finds no compiled bytecode compiles torch and transformers anew: 13 seconds at every start, measured.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check setup format requirements faults clean help

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: setup  ## simulate, train, predict, score, and look: 6 to 20 minutes on two cores
	$(BIN)/robointer demo $(ARGS)

test: setup  ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q $(ARGS)

check: setup  ## formatting, lint, types, and the fast tests of the rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_rule.py

faults: setup  ## only the tests that kill, tear and damage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults $(ARGS)

format: setup  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(STAMP)  ## the environment, in .venv

$(VENV)/bin/uv: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt

$(VENV)/.installed-default: $(VENV)/bin/uv requirements/all.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/all.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The CPU build of torch has no hash on the main index; everything else is checked.
$(VENV)/.installed-cpu: $(VENV)/bin/uv requirements/cpu.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu torch==2.15.0 torchvision==0.29.2
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements/cpu.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header pyproject.toml

requirements: $(VENV)/bin/uv  ## pin the newest versions that pyproject.toml allows
	$(COMPILE) --extra train --extra scale --extra api --extra serve --extra lerobot --extra sim --extra ray --extra tables --extra ui --group dev -o requirements/all.txt
	$(COMPILE) --extra train --extra scale --extra api --extra serve --extra lerobot --extra sim --extra ray --extra tables --extra ui --group dev --no-emit-package torch --no-emit-package torchvision $(foreach p,$(CUDA),--no-emit-package $(p)) -o requirements/cpu.txt
	$(COMPILE) -o requirements/score.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --group bootstrap -o requirements/bootstrap.txt

# What only torch's CUDA build wants.
CUDA = triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl nvidia-cuda-cupti nvidia-cuda-nvrtc \
  nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
  nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
