#!/usr/bin/env bash
# Measures the release profile and holds what was measured against its bars.
#
#   scripts/bench.sh        what has a bar and takes minutes: tokens beside the bare server, the bound and oidc-provider;
#                           latency against load; overload; refusals; metrics and traces; idle connections;
#                           instructions; signatures
#   scripts/bench.sh all    and what grows with the work: up to a million grants, which take some minutes to fill
#
# Rows go to bench/summary.json in the target directory, plots to bench/*.svg beside it. A bar that is missing or not met
# ends it with 1. What other campaigns measured (soak/*.json, bench/*.json) is taken in: run `make soak-state` before
# `make bench-all`, or its bars are those of this run.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
extent=${1:-}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
bench=$target/bench
mkdir -p "$bench"

# oidc-provider, for the comparison.
environment=$(scripts/node.sh --export)
eval "$environment"
# Without valgrind the count is missing, and is said to be.
TOKENKEEP_BENCH_VALGRIND=valgrind
if environment=$(scripts/valgrind.sh); then
    eval "$environment"
fi

"$cargo" build --locked --release --package tokenkeep-dev --package tokenkeep-bench --bins
program=$target/release/tokenkeep-bench

# Rows of an earlier run say nothing of this one.
rm -f "$bench/run.json" "$bench/attestation.json" "$bench/proofs.json"
"$program" run --valgrind "$TOKENKEEP_BENCH_VALGRIND" --rows "$bench/run.json" --plots "$bench" \
    || echo 'bench: a part was not measured'
"$cargo" bench --locked --package tokenkeep-attestation --bench snp_report -- "$bench/attestation.json" \
    || echo 'bench: snp_report is not well'
"$cargo" bench --locked --package tokenkeep-tests --bench proofs -- "$bench/proofs.json" \
    || echo 'bench: proofs is not well'

files=("$bench/run.json" "$bench/attestation.json" "$bench/proofs.json")
judge=()
if [ "$extent" = all ]; then
    rm -f "$bench/growth.json"
    "$program" growth --rows "$bench/growth.json" --plots "$bench" || echo 'bench: growth was not measured'
    files+=("$bench/growth.json" "$target/soak/state.json" "$target/soak/abuse.json")
    judge+=(--all)
fi

echo
"$program" judge "${judge[@]}" --summary "$bench/summary.json" "${files[@]}"
