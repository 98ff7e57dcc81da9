# What a developer types. Every target honours CARGO_TARGET_DIR; `make test` is what CI runs.
#
#   demo           build and walk through the product on loopback: needs Rust and a C compiler
#   up             keep the same stack running, with commands to try
#   test           every test, the JavaScript and Python ones included: needs Python 3.11 with pip
#   lint           formatting and clippy
#   doc            the documentation of all crates, warnings refused
#   bench          an issued token against a bare server on the same stack, its bound and oidc-provider; latency against
#                  load, overload, refusals, metrics, idle connections, instructions; then the table of bars, each met or not
#   bench-all      the same, and what grows with grants, tenants, policies, connections and leaves: a quarter of an hour more
#   bench-gateway  what a call through the gateway costs beside nginx as a reverse proxy, TLS on both sides
#   fuzz           each fuzz target for FUZZ_SECONDS (600): a nightly toolchain is used if there is one
#   mutants        plants faults in what verifies, authenticates and exchanges, and lists those that no test notices: hours
#   soak           the long campaigns: all tests with their full counts, then every fuzz body for longer
#   soak-state     the bars of the state: full counts, then the table of bars, each met or not
#   soak-refresh   the same of exchanges with providers: kills, faults, races
#   soak-gateway   the bars of the gateway, against nginx and Node: full counts, then the table
#   soak-control   the bars of roles, policy and log: full counts, then the table
#   soak-abuse     what a client notices of floods, slow peers and idle connections
#   release-check  builds the release binaries and looks for anything emulated in them

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
FUZZ_SECONDS ?= 600
# Empty: all of them.
FUZZ_TARGETS ?=

.PHONY: help demo up bench bench-all bench-gateway test lint doc fuzz mutants soak release-check

help:
	@sed -n 's/^#   //p' Makefile

demo:
	$(CARGO) run --locked --package tokenkeep-dev --bin tokenkeep-dev -- demo

up:
	$(CARGO) build --locked --package tokenkeep --package tokenkeep-dev --bins
	"$${CARGO_TARGET_DIR:-target}/debug/tokenkeep-dev" up

test:
	scripts/test.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --workspace

bench:
	scripts/bench.sh

bench-all:
	scripts/bench.sh all

bench-gateway:
	$(CARGO) build --locked --release --package tokenkeep-dev --bins
	environment=$$(scripts/nginx.sh --export); eval "$$environment"; \
	$(CARGO) bench --locked --package tokenkeep-tests --bench gateway -- "$$(realpath -m "$${CARGO_TARGET_DIR:-target}")/bench/gateway.json"

fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

mutants:
	$(CARGO) run --locked --manifest-path mutants/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}/mutants/tool" -- "$${CARGO_TARGET_DIR:-target}/mutants"

soak:
	TOKENKEEP_SOAK=full PROPTEST_CASES=$${PROPTEST_CASES:-20000} scripts/test.sh
	scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

soak-%:
	scripts/soak.sh $*

release-check:
	$(CARGO) build --locked --release --package tokenkeep-broker --package tokenkeep --bins
	$(CARGO) build --locked --package tokenkeep-dev --bins
	scripts/no-emulator-in-release.sh
