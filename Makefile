# data-putter. Only Python 3.11+ and make are needed; everything else goes into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCE := common putter router tests benchmarks tools
JOBS   ?= auto
N      ?= 3
NODE   ?= 0
ARGS   ?=

.PHONY: help install run cluster cluster-status cluster-stop attach compose compose-stop test soak \
  check format bench lock clean

help:
	@echo "make run      install and start a whole store on this machine (data in ./data)"
	@echo "make cluster  the same with two routers and N=3 putters (data in ./cluster-data);"
	@echo "              from another terminal: make attach NODE=0, cluster-status, cluster-stop"
	@echo "make compose  the same in containers, with N=3 putters; make compose-stop keeps the data"
	@echo "make test     install and run the tests"
	@echo "make check    formatting, lint, types, import directions"
	@echo "make bench    measure; prints the tables of docs/internals/performance.md"
	@echo "make soak     the long versions of the tests that have one"
	@echo "make format   let ruff format the code"
	@echo "make lock     take the newest packages that pyproject.toml allows, with their hashes"
	@echo "make clean    remove what install and tests made (never ./data or ./cluster-data)"

$(BIN)/putter: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "data-putter needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(BIN)/putter requirements-dev.txt
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

# S3 clients that some tests run. What cannot be installed here is skipped, and tried again.
$(VENV)/.clients: $(VENV)/.dev requirements-clients.txt tests/clients/package-lock.json
	@tools/install_clients.sh $(VENV)

install: $(BIN)/putter

run: install
	$(BIN)/python -m putter router

# ARGS: what else the command should get, such as ARGS="--data-dir /tmp/try --storage tree".
cluster: install
	@$(BIN)/python -m putter cluster start --putters $(N) $(ARGS)

attach: install
	@$(BIN)/python -m putter cluster attach $(NODE) $(ARGS)

cluster-status: install
	@$(BIN)/python -m putter cluster status $(ARGS)

cluster-stop: install
	@$(BIN)/python -m putter cluster stop $(ARGS)

compose:
	docker/build-docker.sh
	docker/make-key.sh
	$(PYTHON) docker/compose_with.py $(N) > docker/compose-local.yaml
	docker compose --file docker/compose-local.yaml up --detach --wait --remove-orphans

compose-stop:
	docker compose --file docker/compose-local.yaml down

test: $(VENV)/.clients
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

soak: $(VENV)/.clients
	PUTTER_SOAK=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
	  tests/fault tests/integration tests/property tests/simulation

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCE)
	$(BIN)/ruff check $(SOURCE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format $(SOURCE)
	$(BIN)/ruff check --fix $(SOURCE)

$(VENV)/.bench: $(VENV)/.dev requirements-bench.txt
	$(PIP) install --require-hashes -r requirements-bench.txt
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.bench_engines
	$(BIN)/python -m benchmarks.bench_metadata
	$(BIN)/python -m benchmarks.bench_durable
	$(BIN)/python -m benchmarks.bench_pipeline
	$(BIN)/python -m benchmarks.bench_workers
	$(BIN)/python -m benchmarks.bench_cluster
	$(BIN)/python -m benchmarks.bench_s3
	$(BIN)/python -m benchmarks.bench_s3_beside
	$(BIN)/python -m benchmarks.bench_s3_memory
	$(BIN)/python -m benchmarks.bench_idle
	$(BIN)/python -m benchmarks.bench_start
	$(BIN)/python -m benchmarks.bench_start_segments
	$(BIN)/python -m benchmarks.bench_audit

lock:
	$(PYTHON) tools/lock.py --upgrade

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find $(SOURCE) -name __pycache__ -type d -prune -exec rm -rf {} +
