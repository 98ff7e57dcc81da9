#!/usr/bin/env bash
# No binary of `tokenkeepd` or `tokenkeep` holds an emulated attester or a development root.
#
#   scripts/no-emulator-in-release.sh [release|debug]
#
# `make test` looks at the debug binaries that it has built anyway, `make release-check`, which CI runs too, at those of
# a release. A test of the house forbids code that depends on the profile or on features.
# Looks in the binaries for the development keys' moduli and for file names of the test kit. The same search
# must find them in the debug `tokenkeep-dev`, which has them: a search that finds nothing anywhere proves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

release=${CARGO_TARGET_DIR:-target}/${1:-release}
development=${CARGO_TARGET_DIR:-target}/debug/tokenkeep-dev
keys=(testkit/keys/snp_development_ark.pem testkit/keys/snp_development_ask.pem)

# 48 bytes inside the modulus, as a pattern of bytes: it stands so in private key, public key and certificate.
modulus() {
    local hex
    hex=$(grep -v -e '-----' "$1" | tr -d '\n' | base64 -d | od -An -v -tx1 -j80 -N48 | tr -d ' \n')
    [ "${#hex}" -eq 96 ] || { echo "no-emulator-in-release.sh: $1 can't be read" >&2; exit 2; }
    sed 's/../\\x&/g' <<<"$hex"
}

patterns=('testkit/src/' 'EMULATED, Tokenkeep development')
for key in "${keys[@]}"; do
    patterns+=("$(modulus "$key")" "$(sed -n 2p "$key")")
done

# How many of the patterns a binary holds.
found_in() {
    local count=0 pattern
    for pattern in "${patterns[@]}"; do
        if LC_ALL=C grep -qaP -e "${pattern//+/\\+}" "$1"; then
            count=$((count + 1))
        fi
    done
    echo "$count"
}

for binary in "$release/tokenkeepd" "$release/tokenkeep" "$development"; do
    [ -x "$binary" ] || { echo "$binary is not built" >&2; exit 2; }
done
control=$(found_in "$development")
if [ "$control" -eq 0 ]; then
    echo 'the search finds nothing in tokenkeep-dev, which holds the development keys' >&2
    exit 2
fi
status=0
for binary in tokenkeepd tokenkeep; do
    found=$(found_in "$release/$binary")
    echo "$binary: $found of ${#patterns[@]} marks of the emulated platform (tokenkeep-dev: $control)"
    [ "$found" -eq 0 ] || status=1
done
exit "$status"
