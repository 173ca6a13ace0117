# Everything a contributor types. `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := core plugins/http plugins/ollama plugins/openai plugins/script
READY := $(VENV)/.ready
INSTALL := $(shell command -v uv >/dev/null 2>&1 && echo uv pip install --quiet --python $(BIN)/python || echo $(BIN)/python -m pip install --quiet --disable-pip-version-check)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-llama check format bench peers torture simulate clean

help:  ## Say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): constraints.txt requirements-dev.in pyproject.toml $(PACKAGES:%=%/pyproject.toml)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV)"
	@$(INSTALL) -c constraints.txt -r requirements-dev.in $(PACKAGES:%=-e %)
	@touch $@

setup: $(READY)  ## Make the virtual environment

demo: $(READY)  ## Run real tasks of every kind through a durable queue
	@$(BIN)/python docs/examples/demo.py

test: $(READY)  ## Run all tests, with coverage
	@$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term $(ARGS)

test-llama: $(READY)  ## Let oq-openai talk to llama.cpp: needs llama-cpp-python[server] and gguf (LLAMA_PYTHON says where)
	@LLAMA_PYTHON=$(LLAMA_PYTHON) $(BIN)/python -m pytest tests/test_llama.py $(ARGS)

check: $(READY)  ## Lint, format, types and architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q core/tests/test_architecture.py

format: $(READY)  ## Put all code into form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## Print what oq does on this machine
	@$(BIN)/python benchmarks/bench.py $(ARGS)

peers: $(READY)  ## Print what other queues do on this machine, in the same run
	@$(BIN)/python benchmarks/peers.py $(ARGS)

simulate: $(READY)  ## Run the whole queue on virtual time with faults: SEED=7 for one seed, COUNT=1000 for many
	@$(BIN)/python core/tests/simulation --seed $(or $(SEED),0) --count $(or $(COUNT),$(if $(SEED),1,1000)) $(if $(TASKS),--tasks $(TASKS))

torture: $(READY)  ## Kill, cut, flip and fill (minutes): every promise after each, as a table
	@cd tests && ../$(BIN)/python -m torture kills --each $(or $(EACH),100)
	@cd tests && ../$(BIN)/python -m torture torn --images $(or $(IMAGES),1000)
	@cd tests && ../$(BIN)/python -m torture flips --number $(or $(FLIPS),1000)

clean:  ## Remove what the others made
	@rm -rf $(VENV) demo-data oq-data .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
