# What a developer types. Every target honours CARGO_TARGET_DIR; `make test` is what CI runs.
#
#   demo           build and walk through the product on loopback: needs Rust and a C compiler
#   up             keep the same stack running, with commands to try
#   test           every test, the JavaScript and Python ones included: needs Python 3.11 with pip
#   lint           formatting and clippy
#   doc            the documentation of all crates, warnings refused
#   bench          an issued token against a bare server on the same stack; a verified report against its signatures
#   fuzz           each fuzz target for FUZZ_SECONDS (60): a nightly toolchain is used if there is one
#   soak           the long campaigns: all tests with their full counts, then every fuzz body for longer
#   soak-state     the bars of the state: full counts, then the table of bars, each met or not
#   release-check  builds the release binaries and looks for anything emulated in them

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
FUZZ_SECONDS ?= 60
# Empty: all of them.
FUZZ_TARGETS ?=

.PHONY: help demo up bench test lint doc fuzz soak release-check

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
	$(CARGO) build --locked --release --package tokenkeep-dev --package tokenkeep-bench --bins
	"$${CARGO_TARGET_DIR:-target}/release/tokenkeep-bench" --summary "$${CARGO_TARGET_DIR:-target}/bench/summary.json"
	$(CARGO) bench --locked --package tokenkeep-attestation --bench snp_report -- "$$(realpath -m "$${CARGO_TARGET_DIR:-target}")/bench/attestation.json"

fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

soak:
	TOKENKEEP_SOAK=full PROPTEST_CASES=$${PROPTEST_CASES:-20000} scripts/test.sh
	scripts/fuzz.sh $${FUZZ_SECONDS:-600} $(FUZZ_TARGETS)

soak-%:
	scripts/soak.sh $*

release-check:
	$(CARGO) build --locked --release --package tokenkeep-broker --package tokenkeep --bins
	$(CARGO) build --locked --release --package tokenkeep-dev --bins
	scripts/no-emulator-in-release.sh
