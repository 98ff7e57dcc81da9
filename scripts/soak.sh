#!/usr/bin/env bash
# Runs a campaign with its full counts and holds what it measured against its bars.
#
#   scripts/soak.sh NAME [FILTER]   the tests whose names contain NAME_bar_, or NAME_bar_FILTER
#
# Rows go to soak/NAME.json in the target directory; those of an earlier run are removed first. Without FILTER a bar
# that is missing, was tried too seldom or is not met ends it with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
name=$1
only=${2:-}
target=${CARGO_TARGET_DIR:-target}
rows=$target/soak/$name.json

# Programs that are not ours.
for prepared in scripts/node.sh scripts/python.sh scripts/nginx.sh; do
    environment=$("$prepared" --export)
    eval "$environment"
done

"$cargo" build --locked --workspace --bins
# Times and sizes are those of the release profile.
"$cargo" build --locked --release --package tokenkeep --package tokenkeep-dev --package tokenkeep-tests --bins
[ -n "$only" ] || rm -f "$rows"

ran=0
# One at a time: campaigns load the machine, and some measure it.
TOKENKEEP_SOAK=full "$cargo" test --locked --package tokenkeep-tests --tests --no-fail-fast \
    "${name}_bar_$only" -- --include-ignored --nocapture --test-threads 1 || ran=$?
judged=0
"$target/debug/soak-report" "$name" "$rows" || judged=$?
[ "$ran" -eq 0 ] || echo "soak-$name: a test of the campaign failed"
[ "$ran" -eq 0 ] && { [ "$judged" -eq 0 ] || [ -n "$only" ]; }
