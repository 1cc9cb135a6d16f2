# `make help` lists what there is. Everything that is built or downloaded stays outside the checkout,
# in PLATBOOK_CACHE (default ~/.cache/platbook), and is kept for the next clone.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export PLATBOOK_CACHE ?= $(HOME)/.cache/platbook
export CARGO_TARGET_DIR ?= $(PLATBOOK_CACHE)/target
export ROCKSDB_LIB_DIR ?= $(shell ops/setup/rocksdb.sh --where)
export ROCKSDB_STATIC := 1
export PLATBOOK_PYTHON ?= $(PLATBOOK_CACHE)/venv/bin/python
export PATH := $(PLATBOOK_CACHE)/bin:$(PATH)

CARGO_DENY := 0.20.2
# How much `make chaos` breaks, and the seed that decides when.
ROUNDS ?= 20
KILLS ?= 20
SEED ?= 1
CHAOS_FOR ?= 2m
# How many seeds `make sim` runs, from which one, and how many of them twice.
SEEDS ?= 200
START ?= 1
TWICE ?= 5
SIM := cd chaos-tests/sim && cargo build --locked --quiet && "$(CARGO_TARGET_DIR)/debug/platbook-sim"
# How long `make fuzz` tries each target, in seconds, and which ones (all).
FUZZ_SECONDS ?= 300
TARGETS ?=
# QUICK=1 lets `make bench` do one short round, and leave the documentation as it is.
QUICK ?=
# cargo-nextest runs every test in its own process and shows the slow ones; cargo test does as well.
RUN_TESTS := $(if $(shell command -v cargo-nextest),cargo nextest run,cargo test)

.PHONY: help setup build test check fix demo chaos sim replay bench smoke fuzz bite

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## install what is missing: system packages, RocksDB's archive, the Python tools of the tests
	@ops/setup/setup.sh

# With the features of the whole workspace, as the tests have them: else every dependency is compiled
# again.
build: setup ## build the `platbook` command
	@cargo build --locked --workspace --bin platbook

test: setup ## every test that CI runs
	@ops/setup/steps.sh "make test" \
	    "formatting"   "cargo fmt --all --check" \
	    "clippy"       "cargo clippy --workspace --all-targets --locked -- -D warnings" \
	    "tests"        "$(RUN_TESTS) --workspace --locked" \
	    "doc tests"    "cargo test --workspace --doc --locked --quiet" \
	    "simulator"    "cd chaos-tests/sim && cargo fmt --check && cargo test --locked --quiet" \
	    "simulation"   "$(SIM) swarm --seeds 24 --twice 2"

check: setup ## formatting, lints, licences and advisories of dependencies, documentation; never writes
	@ops/setup/cargo-deny.sh $(CARGO_DENY)
	@ops/setup/steps.sh "make check" \
	    "formatting"   "cargo fmt --all --check" \
	    "clippy"       "cargo clippy --workspace --all-targets --locked -- -D warnings" \
	    "simulator"    "cd chaos-tests/sim && cargo clippy --all-targets --locked -- -D warnings" \
	    "dependencies" "cargo deny --locked check" \
	    "docs"         "RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
	                        cargo doc --workspace --no-deps --locked --document-private-items"

fix: setup ## let rustfmt and clippy repair what they can
	@cargo fmt --all
	@cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged -- -D warnings
	@cargo fmt --all
	@cd chaos-tests/sim && cargo fmt

demo: build ## real sales through a cluster that loses a node, every ZIP checked (ARGS=--once to end)
	@exec "$(CARGO_TARGET_DIR)/debug/platbook" demo $(ARGS)

chaos: build ## kills (ROUNDS=20, KILLS=20), pauses, cuts, consumers, fault after fault (CHAOS_FOR=2m)
	@platbook="$(CARGO_TARGET_DIR)/debug/platbook"; \
	    "$$platbook" chaos restart --rounds $(ROUNDS) --seed $(SEED); \
	    for by in kill pause partition; do \
	        "$$platbook" chaos failover --by $$by --kills $(KILLS) --seed $(SEED) --max-resume 2s; \
	    done; \
	    "$$platbook" chaos rolling --seed $(SEED); \
	    "$$platbook" chaos run --for $(CHAOS_FOR) --seed $(SEED); \
	    "$$platbook" chaos changes --seed $(SEED)

sim: setup ## whole clusters, each in one process and from a seed (SEEDS=200, START=1, TWICE=5)
	@$(SIM) swarm --seeds $(SEEDS) --start $(START) --twice $(TWICE)

replay: setup ## one seed of `make sim` again (SEED=1), with logs and with all events in TRACE=sim.trace
	@TRACE="$$(realpath "$${TRACE:-sim.trace}")"; export RUST_LOG="$${RUST_LOG:-info,openraft=warn}"; \
	    $(SIM) run --seed $(SEED) --trace "$$TRACE"

bench: setup ## beside etcd, NATS and PostgreSQL, optimised; writes docs/benchmarks (QUICK=1, ARGS=...)
	@cargo build --locked --release --workspace --bin platbook
	@platbook="$(CARGO_TARGET_DIR)/release/platbook"; \
	    etcd=$$(ops/setup/etcd.sh); nats=$$(ops/setup/nats.sh); postgres=$$(ops/setup/postgresql.sh); \
	    "$$platbook" bench compare --etcd "$$etcd" --nats "$$nats" --postgres "$$postgres" -o table \
	        $(if $(QUICK),--quick,--docs docs) $(ARGS); \
	    $(if $(QUICK),:,"$$platbook" bench readers --check -o table)

smoke: setup ## three minutes of bench: fails where a ratio to etcd has fallen by a quarter, optimised
	@cargo build --locked --release --workspace --bin platbook
	@"$(CARGO_TARGET_DIR)/release/platbook" bench compare --etcd "$$(ops/setup/etcd.sh)" --quick \
	    --rounds 3 --without live,restart --against docs/benchmarks/compare.json -o table $(ARGS)

fuzz: setup ## any bytes at every way in, FUZZ_SECONDS=300 each (TARGETS=...); needs a nightly compiler
	@ops/setup/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

bite: setup ## plant bugs on purpose, one after the other, and show which check catches each
	@chaos-tests/bite.sh
