#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds drafter and runs its tests, from a bare Debian 12 on.  The last line is the result:
# "N passed, N failed, N skipped".
set -u

usage()
{
    cat <<'USAGE'
Usage: ./test.sh [OPTIONS] [PART...]

Parts (default: all):
  lint      house rules
  check     build and `make check`
  root      tests that need root (skipped otherwise)
  address   conformance, unit and integration tests with AddressSanitizer and UBSan
  thread    the same with ThreadSanitizer
  dist      `make distcheck` without the tests, which `check` ran

Options:
  --build DIR     where to build (default: a temporary directory, removed afterwards)
  --no-install    do not install missing packages
  -h, --help      this text
USAGE
}

build= install=yes parts=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=${2:?--build needs a directory}; shift ;;
    --build=*) build=${1#*=} ;;
    --no-install) install=no ;;
    -h | --help) usage; exit 0 ;;
    lint | check | root | address | thread | dist) parts="$parts $1" ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
parts=${parts:-lint check root address thread dist}

source=$(cd "$(dirname "$0")" && pwd)
kept=$build
build=${build:-$(mktemp -d "${TMPDIR:-/tmp}/drafter-test.XXXXXX")}
mkdir -p "$build" && build=$(cd "$build" && pwd) || exit 1
results=$build/results
: >"$results"
trap 'test -n "$kept" || { chmod -R u+w "$build"; rm -rf "$build"; }' EXIT
trap 'exit 130' INT TERM
umask 022 # plugins that others can write are refused

say()
{
    printf '\n=== %s\n' "$*"
}

# One result of a step that is not an automake test.
result() # PASS|FAIL|SKIP NAME [REASON]
{
    echo "$*" | tee -a "$results"
}

install_packages()
{
    missing=$(sed 's/#.*//; s/[[:space:]].*//' "$source/tests/packages.txt" | while read -r package; do
        test -z "$package" || dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
            grep -q 'ok installed' || echo "$package"
    done)
    test -n "$missing" || return 0
    say "installing" $missing
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    # shellcheck disable=SC2086
    $sudo apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing \
            >"$build/apt.log" 2>&1 || { cat "$build/apt.log"; echo "packages could not be installed"; }
}

# Configures and builds in a directory of its own; prints the log when that fails.
build_in() # DIRECTORY CONFIGURE-ARGUMENTS...
{
    directory=$build/$1
    shift
    mkdir -p "$directory" && cd "$directory" || return 1
    if { test -f Makefile || "$source/configure" --enable-werror "$@"; } >build.log 2>&1 &&
        make >>build.log 2>&1; then
        sed -n '/^drafter .*plugin interface/,/^Installs/p' build.log
        return 0
    fi
    tail -n 60 build.log
    return 1
}

# Gathers the results of automake's tests below a directory and shows the logs of failures.
collect() # LABEL DIRECTORY
{
    find "$2" -name '*.trs' | sort >"$build/trs"
    while read -r trs; do
        state=$(sed -n 's/^:test-result: *//p' "$trs" | head -n 1)
        name=$1/$(echo "${trs%.trs}" | sed "s,^$build/[^/]*/,,")
        log=${trs%.trs}.log
        case $state in
        PASS* | XFAIL*) result PASS "$name" ;;
        SKIP*) result SKIP "$name: $(grep -v '^SKIP ' "$log" | tail -n 1)" ;;
        *)
            result FAIL "$name"
            sed 's/^/    | /' "$log" | tail -n 60
            ;;
        esac
    done <"$build/trs"
}

drop_results()
{
    find "$1" -name '*.trs' -exec rm -f {} +
}

run_tests() # LABEL DIRECTORY MAKE-ARGUMENTS...
{
    label=$1 directory=$2
    shift 2
    drop_results "$directory"
    make -k "$@" >"$directory/$label.log" 2>&1
    status=$?
    collect "$label" "$directory"
    # A test that could not even be built has no result of its own.
    if [ $status -ne 0 ] && ! grep -q "^FAIL $label/" "$results"; then
        tail -n 60 "$directory/$label.log"
        result FAIL "$label: make $*"
    fi
}

part_lint()
{
    if "$source/tests/lint.sh" "$source"; then result PASS lint; else result FAIL lint; fi
}

part_check()
{
    build_in normal || { result FAIL "check: build"; return; }
    run_tests check "$build/normal" check
}

part_root()
{
    [ "$(id -u)" = 0 ] || { result SKIP "root: not root"; return; }
    build_in normal >/dev/null || { result FAIL "root: build"; return; }
    run_tests root "$build/normal" check-root
}

# The programs that move data between threads, built again with a sanitizer.
sanitized() # LABEL SANITIZERS
{
    build_in "$1" --enable-sanitizers="$2" CFLAGS='-g -O1' >"$build/$1.out" ||
        { cat "$build/$1.out"; result FAIL "$1: build"; return; }
    for directory in unit conformance integration; do
        cd "$build/$1/tests/$directory" && run_tests "$1" "$build/$1/tests/$directory" check
    done
}

part_address()
{
    sanitized address address,undefined
}

part_thread()
{
    sanitized thread thread
}

part_dist()
{
    build_in normal >/dev/null || { result FAIL "dist: build"; return; }
    # The tests of the unpacked tarball are those that ran already; what dist can break is the build.
    if make distcheck TESTS= >"$build/dist.log" 2>&1; then
        result PASS dist
    else
        tail -n 60 "$build/dist.log"
        result FAIL dist
    fi
}

[ "$install" = no ] || ! command -v apt-get >/dev/null || install_packages
say "autogen"
(cd "$source" && ./autogen.sh) >"$build/autogen.log" 2>&1 ||
    { cat "$build/autogen.log"; result FAIL autogen; }
for part in $parts; do
    say "$part"
    start=$(date +%s)
    "part_$part"
    echo "($part took $(($(date +%s) - start)) s)"
done

say "result"
grep -E '^(FAIL|SKIP)' "$results"
count()
{
    grep -c "^$1" "$results"
}
failed=$(count FAIL) passed=$(count PASS)
echo "$passed passed, $failed failed, $(count SKIP) skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
