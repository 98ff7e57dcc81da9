#!/bin/sh
# Prepares the Python part of the tests: a virtual environment with the pinned packages, and says where.
#
#   scripts/python.sh            prints two lines, fit for `eval` and for a Makefile:
#                                  TOKENKEEP_TEST_PYTHON=/path/to/target/python-env/bin/python
#                                  TOKENKEEP_TEST_PYTHON_DIR=/path/to/tests/python
#   scripts/python.sh --export   the same with `export ` before each
#
# Needs Python 3.11 or newer with pip. It does nothing the second time unless the pinned list or Python changed.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in
    /*) ;;
    *) target=$root/$target ;;
esac
venv=$target/python-env
pinned=$root/scripts/requirements-python.txt

say() {
    printf 'python.sh: %s\n' "$1" >&2
}

mkdir -p "$target"
# Two makes at once must not install into one directory.
if command -v flock >/dev/null; then
    exec 9>"$target/.python.lock"
    flock 9
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    say 'Python 3.11 or newer is needed: install it, with pip and venv'
    exit 1
fi

stamp=$(python3 --version; cksum <"$pinned")
if [ ! -f "$venv/.stamp" ] || [ "$(cat "$venv/.stamp")" != "$stamp" ]; then
    say 'installing the pinned Python packages'
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes -r "$pinned" >&2
    printf '%s' "$stamp" >"$venv/.stamp"
fi

prefix=
if [ "${1:-}" = --export ]; then
    prefix='export '
fi
printf '%sTOKENKEEP_TEST_PYTHON=%s\n' "$prefix" "$venv/bin/python"
printf '%sTOKENKEEP_TEST_PYTHON_DIR=%s\n' "$prefix" "$root/tests/python"
