# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
# For the scripts in this directory: skip, fail, clean-up, QEMU driven over QMP on two FIFOs.

set -eu

skip() { echo "SKIP: $*"; exit 77; }
fail() { echo "FAIL: $*" >&2; exit 1; }
need() { for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done; }

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
# shellcheck disable=SC2034 # for the scripts
guest_src=$(dirname "$here")
work=$(mktemp -d "${TMPDIR:-/tmp}/drafter-guest.XXXXXX")
children=

clean_up() {
    status=$?
    for pid in $children; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        for log in "$work"/*.log; do
            [ -f "$log" ] && { echo "== $(basename "$log")"; tail -n 15 "$log"; } >&2
        done
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# until_true SECONDS COMMAND...: polls; fails the test when the time is over
until_true() {
    local tries=$(($1 * 20)); shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "timed out: $*"
        sleep 0.05
    done
}

# qmp_open NAME: makes the FIFOs for -chardev pipe,path=$work/NAME and opens them as fd 8 and 9
qmp_open() {
    mkfifo "$work/$1.in" "$work/$1.out"
    exec 8<>"$work/$1.in" 9<>"$work/$1.out"
}

# qmp JSON: sends one command and prints its answer
qmp() {
    printf '%s\n' "$1" >&8
    while IFS= read -r -t 10 -u 9 answer; do
        case $answer in
        *'"error"'*) fail "QMP: $1: $answer" ;;
        *'"return"'*) printf '%s\n' "$answer"; return ;;
        esac
    done
    fail "QMP: no answer to $1"
}

# TSC ticks per millisecond, by the program that the test build made or by building it here
tsc_khz() {
    [ -x "$work/tsc-khz" ] || ${CC:-cc} -O2 -o "$work/tsc-khz" "$guest_src/testguest/tsc-khz.c"
    "$work/tsc-khz"
}
