#!/usr/bin/env bash
# Runs fuzz targets, each for a bounded time:
#
#   scripts/fuzz.sh SECONDS [TARGET…]
#
# With a nightly toolchain the targets are built with AddressSanitizer; without one the stable compiler builds them,
# with its own checks only. A finding is kept in fuzz/artifacts and makes this fail.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET…]}
shift
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
case $target_dir in
    /*) ;;
    *) target_dir=$PWD/$target_dir ;;
esac
export CARGO_TARGET_DIR=$target_dir
tools=$target_dir/tools
PATH=$tools/bin:$PATH

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'fuzz.sh: installing cargo-fuzz' >&2
    CARGO_TARGET_DIR=$target_dir/tools-build cargo install --locked --root "$tools" --version '^0.13' cargo-fuzz
fi

if [ "${TOKENKEEP_FUZZ_STABLE:-}" != 1 ] && rustup toolchain list 2>/dev/null | grep -q '^nightly-'; then
    toolchain=(+nightly)
    options=(--sanitizer address)
    # Not the crates' own target: one compiler would undo the other's work.
    export CARGO_TARGET_DIR=$target_dir/fuzz-nightly
else
    toolchain=()
    options=(--sanitizer none)
    export RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_DIR=$target_dir/fuzz-stable
fi

if [ $# -eq 0 ]; then
    mapfile -t targets < <(cargo "${toolchain[@]}" fuzz list)
    # All in one go; a few named ones are built as they are run.
    cargo "${toolchain[@]}" fuzz build "${options[@]}"
else
    targets=("$@")
fi

passed=0
failed=()
for target in "${targets[@]}"; do
    echo "fuzz.sh: $target for $seconds s" >&2
    # Seeds come from the same code that the everyday tests take them from; what was found before is kept.
    corpus=$PWD/fuzz/corpus/$target
    mkdir -p "$corpus"
    if TOKENKEEP_FUZZ_SEED_DIR=$corpus cargo "${toolchain[@]}" fuzz run "${options[@]}" "$target" "$corpus" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; then
        passed=$((passed + 1))
    else
        failed+=("$target")
    fi
done
echo "fuzz.sh: findings in: ${failed[*]:-none}"
echo "fuzz: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
