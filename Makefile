# Everything a developer or CI does, in one place. `make` shows what there is.

# The tests and the demo run the command that was just built here.
TARGET ?= $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
TRITON = $(TARGET)/debug/triton
CARGO  ?= cargo

# Third-party software that some tests run against.
VENV   = $(TARGET)/venv
PYTHON = $(abspath $(VENV))/bin/python

.PHONY: help dev build demo shell server test test-services lint bench sim mutants mutants-ci quotas fuzz kill stress nightly

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Check the toolchain, build, and print the next steps
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: install gcc or clang (SQLite is built from source)"; exit 1; }
	@$(MAKE) --no-print-directory build
	@printf '\nbuilt %s\n\nnext:\n  make demo    put records and get them back\n  make shell   a shell to try the command in\n  make test    all tests\n' '$(TRITON)'

build:
	$(CARGO) build

demo: ## Put records into a local stream and get them back
	$(CARGO) build -p triton-cli --no-default-features --features local
	@sh docs/demo.sh $(TRITON)

shell: build ## Open a shell with the built command, a scratch config and a local stream
	@sh docs/shell.sh $(TRITON)

# One selection of packages for all tests: another one would build the AWS SDK again, with other features.
TESTED = --workspace --exclude triton-sim

test: build ## Run all tests; needs only Rust and a C compiler
	$(CARGO) test $(TESTED)
	$(CARGO) test -p triton-sim

test-services: build $(VENV)/installed ## Run the tests against third-party software, installed from PyPI first
	TRITON_PYTHON=$(PYTHON) $(CARGO) test $(TESTED) --test services

$(VENV)/installed: tests/services/requirements.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

server: ## Run a Kinesis server on this machine, to try the command against
	$(CARGO) run -q -p triton-test-server

lint: ## Check formatting, clippy and documentation; warnings fail
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy -p triton-cli --all-targets --no-default-features --features local -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --all-features

bench: $(VENV)/installed ## Run the benchmarks, as ratios to a peer in the same run
	$(CARGO) build --release -p triton-cli
	TRITON_PYTHON=$(PYTHON) $(CARGO) bench -p triton-tests
	@$(MAKE) --no-print-directory quotas

# With SIM_SECONDS it goes on for that long.
SEEDS ?= 20000
sim: ## Simulate SEEDS=20000 runs over a model of Kinesis
	$(CARGO) build --release -p triton-sim
	$(TARGET)/release/triton-sim seeds --count $(SEEDS) $(if $(SIM_SECONDS),--seconds $(SIM_SECONDS))

# Where there is no git, a constant chooses.
SALT ?= $(shell git rev-parse HEAD 2>/dev/null || echo triton)
mutants: ## Build every mutant of the core, and check that the simulation finds it
	$(CARGO) run --quiet -p triton-sim -- mutants

mutants-ci: ## Check that every mutant compiles, and that the simulation finds three, chosen by the commit
	$(CARGO) run --quiet -p triton-sim -- mutants --check --sample 3 --salt $(SALT)

quotas: ## Measure how much of a shard's quota the producer and the reader use, on the model of Kinesis
	$(CARGO) build --release -p triton-sim
	$(TARGET)/release/triton-sim quotas

fuzz: ## Test the decoder with random payloads for 10 minutes
	TRITON_FUZZ_SECONDS=600 $(CARGO) test --release -p triton-core --lib no_payload_makes_the_decoder_panic

kill: build ## Kill a put at 200 random moments and check what it acknowledged
	TRITON_KILLS=200 $(CARGO) test $(TESTED) --test e2e acknowledged_records

N ?= 10
stress: ## Run all tests N=10 times on a busy machine
	CARGO='$(CARGO)' .ci/stress $(N)

nightly: ## Run the checks that take hours: mutants, kill, sim, stress, bench and fuzz at full length
	$(MAKE) mutants
	$(MAKE) kill
	$(MAKE) sim SEEDS=1000000
	$(MAKE) stress N=10
	$(MAKE) bench
	$(MAKE) fuzz
