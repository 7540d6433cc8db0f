# Everything a developer or CI does, in one place. `make` shows what there is.

# The tests and the demo run the command that was just built here.
TARGET ?= $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
TRITON = $(TARGET)/debug/triton
CARGO  ?= cargo

# Software that others wrote, for the tests that want it.
VENV   = $(TARGET)/venv
PYTHON = $(abspath $(VENV))/bin/python

.PHONY: help dev build demo shell server test test-services lint bench sim mutants mutants-ci quotas fuzz kill

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Check the toolchain, build, and say what to do next
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: install gcc or clang (SQLite is built from source)"; exit 1; }
	@$(MAKE) --no-print-directory build
	@printf '\nbuilt %s\n\nnext:\n  make demo    put records and get them back\n  make shell   a shell to try the command in\n  make test    all tests\n' '$(TRITON)'

build:
	$(CARGO) build

demo: ## Put records into a local stream and get them back
	$(CARGO) build -p triton-cli --no-default-features --features local
	@sh docs/demo.sh $(TRITON)

shell: build ## A shell with the built command, a scratch config and a local stream
	@sh docs/shell.sh $(TRITON)

test: build ## All tests; needs nothing but Rust and a C compiler
	$(CARGO) test --workspace --exclude triton-sim
	$(CARGO) test -p triton-sim

test-services: build $(VENV)/installed ## Tests beside what others wrote, which is installed from PyPI first
	TRITON_PYTHON=$(PYTHON) $(CARGO) test -p triton-tests --test services

$(VENV)/installed: tests/services/requirements.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

server: ## A Kinesis server on this machine, to try the command against
	$(CARGO) run -q -p triton-test-server

lint: ## Formatting, clippy and documentation, without a warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy -p triton-cli --all-targets --no-default-features --features local -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --all-features

bench: $(VENV)/installed ## Benchmarks, as ratios to a peer in the same run
	$(CARGO) build --release -p triton-cli
	TRITON_PYTHON=$(PYTHON) $(CARGO) bench -p triton-tests
	@$(MAKE) --no-print-directory quotas

# With SIM_SECONDS it goes on for that long.
SEEDS ?= 20000
sim: ## A simulation of SEEDS=20000 runs over a model of Kinesis
	$(CARGO) build --release -p triton-sim
	$(TARGET)/release/triton-sim seeds --count $(SEEDS) $(if $(SIM_SECONDS),--seconds $(SIM_SECONDS))

# Where there is no git, a constant chooses.
SALT ?= $(shell git rev-parse HEAD 2>/dev/null || echo triton)
mutants: ## Build every mutant of the core, and have the simulation find it
	$(CARGO) run --quiet -p triton-sim -- mutants

mutants-ci: ## Check that every mutant applies and compiles, and have three found that the commit's hash chooses
	$(CARGO) run --quiet -p triton-sim -- mutants --check --sample 3 --salt $(SALT)

quotas: ## How much of a shard's quota producer and reader reach, on the model of Kinesis
	$(CARGO) build --release -p triton-sim
	$(TARGET)/release/triton-sim quotas

fuzz: ## The decoder's property for 10 minutes
	TRITON_FUZZ_SECONDS=600 $(CARGO) test --release -p triton-core --lib no_payload_makes_the_decoder_panic

kill: build ## kill -9 of a put at 200 random moments
	TRITON_KILLS=200 $(CARGO) test -p triton-tests --test e2e what_was_acknowledged
