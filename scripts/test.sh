#!/usr/bin/env bash
# Runs every test: Rust by nextest where it is installed, else by cargo; the examples in the documentation; then
# JavaScript. With TOKENKEEP_SOAK=full the tests run their full counts, and those that are too long for every day too.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
soak=${TOKENKEEP_SOAK:-}

# Where Node is and where the packages of its tests lie: Rust tests start processes of it, too.
environment=$(scripts/node.sh --export)
eval "$environment"
# The same of Python.
environment=$(scripts/python.sh --export)
eval "$environment"
# The same of nginx.
environment=$(scripts/nginx.sh --export)
eval "$environment"

# The end-to-end tests start the programs themselves.
"$cargo" build --locked --workspace --bins

# What is tested has nothing emulated in it.
scripts/no-emulator-in-release.sh debug

if "$cargo" nextest --version >/dev/null 2>&1; then
    "$cargo" nextest run --locked --workspace --no-fail-fast ${soak:+--run-ignored all}
else
    "$cargo" test --locked --workspace --lib --bins --tests --no-fail-fast ${soak:+-- --include-ignored}
fi
"$cargo" test --locked --workspace --doc

cd "$TOKENKEEP_TEST_NODE_DIR"
"$TOKENKEEP_TEST_NODE" --test
