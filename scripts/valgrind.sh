#!/bin/sh
# Prepares the valgrind that counts instructions, and says where it is.
#
#   scripts/valgrind.sh            prints one line, fit for `eval` and for a Makefile:
#                                    TOKENKEEP_BENCH_VALGRIND=/path/to/valgrind
#   scripts/valgrind.sh --export   the same with `export ` before it
#
# valgrind 3.19 or newer comes from PATH. Without one Debian's package is fetched by apt-get, checked against the pinned
# digest, and unpacked under the target directory: nothing is installed, and no rights are needed. It does nothing the
# second time. Where neither is to be had it ends with 1, and the count is a bar that is missing.
set -eu

# Debian 12, amd64.
version=1:3.19.0-1
sha256=324842f2308a1e42abf2d81ff5eb19a9475fc9db95647f4d9da71444eda4087f

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in
    /*) ;;
    *) target=$root/$target ;;
esac
place=$target/valgrind-env

say() {
    printf 'valgrind.sh: %s\n' "$1" >&2
}

# valgrind-3.19.0
new_enough() {
    found=$("$1" --version 2>/dev/null) || return 1
    found=${found#valgrind-}
    major=${found%%.*}
    minor=${found#*.}
    minor=${minor%%.*}
    [ "$major" -gt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -ge 19 ]; }
}

valgrind=$(command -v valgrind || true)
if [ "${TOKENKEEP_VALGRIND_FROM_DEBIAN:-}" = 1 ] || [ -z "$valgrind" ] || ! new_enough "$valgrind"; then
    valgrind=$place/run
    mkdir -p "$target"
    # Two makes at once must not unpack into one directory.
    if command -v flock >/dev/null; then
        exec 9>"$target/.valgrind.lock"
        flock 9
    fi
    if [ ! -f "$place/.stamp" ] || [ "$(cat "$place/.stamp")" != "$sha256" ]; then
        say 'no valgrind 3.19 or newer on PATH: unpacking the pinned package of Debian 12'
        rm -rf "$place"
        mkdir -p "$place"
        (cd "$place" && apt-get download "valgrind=$version" >&2)
        package=$(find "$place" -name 'valgrind_*.deb')
        printf '%s  %s\n' "$sha256" "$package" | sha256sum --check --quiet >&2
        dpkg-deb -x "$package" "$place/root"
        rm "$package"
        cat >"$valgrind" <<RUN
#!/bin/sh
VALGRIND_LIB='$place/root/usr/libexec/valgrind' exec '$place/root/usr/bin/valgrind' "\$@"
RUN
        chmod +x "$valgrind"
        printf '%s' "$sha256" >"$place/.stamp"
    fi
    if ! new_enough "$valgrind"; then
        say "the package's valgrind does not run: $valgrind"
        exit 1
    fi
fi

prefix=
if [ "${1:-}" = --export ]; then
    prefix='export '
fi
printf '%sTOKENKEEP_BENCH_VALGRIND=%s\n' "$prefix" "$valgrind"
