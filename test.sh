#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds drafter and runs its tests, from a bare Debian 12 on.  The last line is the result:
# "N passed, N failed, N skipped".
set -u

usage()
{
    cat <<'USAGE'
Usage: ./test.sh [OPTIONS] [PART...]

Parts (default: all, in this order):
  lint      house rules
  build     build with warnings as errors
  image     the Linux guest that some tests run, in out/image (once; needs Debian's packages)
  check     build and `make check`: no root, no network, no KVM
  root      tests that need root (skipped otherwise)
  dist      `make distcheck` without the tests, which `check` ran
  address   units, conformance, integration, crashes, tls and fuzz corpora with ASan and UBSan
  thread    integration, conformance of transports and storage, and floods of tls with ThreadSanitizer

Options:
  --build DIR     where to build (default: a temporary directory, removed afterwards)
  --no-install    do not install missing packages
  -h, --help      this text

Nothing waits for ever: each test and each part has a time limit.  With CI=true a skipped test is a
failure unless tests/expected-skips.txt expects it on such a host.
USAGE
}

build= install=yes parts=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=${2:?--build needs a directory}; shift ;;
    --build=*) build=${1#*=} ;;
    --no-install) install=no ;;
    -h | --help) usage; exit 0 ;;
    lint | build | image | check | root | dist | address | thread) parts="$parts $1" ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
parts=${parts:-lint build image check root dist address thread}

source=$(cd "$(dirname "$0")" && pwd) || exit 1
image=$source/out/image
kept=$build
build=${build:-$(mktemp -d "${TMPDIR:-/tmp}/drafter-test.XXXXXX")}
test -n "$kept" || chmod 711 "$build" # some tests run a part as somebody else
mkdir -p "$build" && build=$(cd "$build" && pwd) || exit 1
results=$build/results times=$build/times
: >"$results"
: >"$times"
jobs=$(nproc 2>/dev/null || echo 2)
umask 022 # plugins that others can write are refused
unset MAKEFLAGS MFLAGS MAKELEVEL
CK_TIMEOUT_MULTIPLIER=2 # of the time limits that Check knows; the machine may be busy
export CK_TIMEOUT_MULTIPLIER

# What tests leave behind is found by these two: their temporary files are here, and each of their
# processes has the name of the directory in its environment.  Short, for the sockets in it.
TMPDIR=$(mktemp -d /tmp/drafter-t.XXXXXX) || exit 1
chmod 711 "$TMPDIR"
DRAFTER_TEST_RUN=$TMPDIR
export TMPDIR DRAFTER_TEST_RUN

leftover_processes()
{
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/} pid=${pid%/environ}
        case $pid:$(cat "/proc/$pid/comm" 2>/dev/null) in
        $$:* | *: | *:test.sh | *:cat | *:grep) continue ;;
        esac
        grep -qaF "DRAFTER_TEST_RUN=$TMPDIR" "$environment" 2>/dev/null && echo "$pid"
    done
}

# Runs a command that is ended after so many seconds, or when we are.
bounded= personality=
bounded() # SECONDS COMMAND...
{
    seconds=$1
    shift
    # shellcheck disable=SC2086
    env --default-signal=INT,QUIT $personality timeout -k 60 "$seconds" "$@" &
    bounded=$!
    wait "$bounded"
    set -- $?
    bounded=
    return "$1"
}

at_end()
{
    trap '' INT TERM
    if [ -n "$bounded" ]; then
        kill -TERM "$bounded"
        wait "$bounded"
    fi
    for pid in $(leftover_processes); do kill -KILL "$pid" 2>/dev/null; done
    awk -v at="$TMPDIR/" 'index($2, at) == 1 { print $2 }' /proc/mounts |
        while read -r mount; do umount -l "$mount"; done
    rm -rf "$TMPDIR"
    test -n "$kept" || { chmod -R u+w "$build"; rm -rf "$build"; }
}
trap at_end EXIT
trap 'exit 130' INT TERM

say()
{
    printf '\n=== %s\n' "$*"
}

# One result of a step that is not an automake test.
result() # PASS|FAIL|SKIP NAME [: REASON]
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
    # shellcheck disable=SC2086
    say "installing" $missing
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    # Sources that are none of ours may be out of reach: what counts is whether the packages come.
    # shellcheck disable=SC2086
    timeout --foreground 300 $sudo apt-get update -qq >"$build/apt.log" 2>&1
    # shellcheck disable=SC2086
    timeout --foreground 900 $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >>"$build/apt.log" 2>&1 ||
        { tail -n 30 "$build/apt.log"; echo "packages could not be installed"; }
}

# A tree that was configured in place cannot be built elsewhere as well: a copy of it can.
prepare_source()
{
    tree=$source
    if [ -f "$source/config.status" ]; then
        tree=$build/source
        mkdir -p "$tree"
        (cd "$source" && git ls-files -z -co --exclude-standard | grep -zv '^out/' |
            tar --null --ignore-failed-read -T - -cf -) | (cd "$tree" && tar xf -)
    fi
    (cd "$tree" && bounded 300 ./autogen.sh) >"$build/autogen.log" 2>&1 ||
        { cat "$build/autogen.log"; result FAIL autogen; }
}

# Configures and builds in a directory of its own; prints the log when that fails.
build_in() # DIRECTORY SUBDIRECTORIES CONFIGURE-ARGUMENTS...
{
    directory=$build/$1 subdirectories=$2
    shift 2
    mkdir -p "$directory" && cd "$directory" || return 1
    test -f Makefile || bounded 300 "$tree/configure" --enable-werror "$@" >build.log 2>&1 ||
        { tail -n 60 build.log config.log; return 1; }
    for subdirectory in $subdirectories; do
        bounded 600 make -j "$jobs" -C "$subdirectory" >>build.log 2>&1 ||
            { grep -E 'error|warning|\*\*\*' build.log; tail -n 40 build.log; return 1; }
    done
}

build_normal()
{
    build_in normal . CFLAGS='-g -O2 -D_FORTIFY_SOURCE=2'
}

# Of a test that takes its time: from when its log was begun, where the file system knows that.
duration() # LOG TRS
{
    took=$(($(stat -c %Y "$2") - $(stat -c %W "$1")))
    if [ "$took" -ge 10 ] && [ "$took" -lt 10000 ]; then echo ", $took s"; fi
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
        PASS* | XFAIL*) result PASS "$name$(duration "$log" "$trs")" ;;
        SKIP*) result SKIP "$name: $(grep -v '^SKIP .*exit status' "$log" | tail -n 1)" ;;
        *)
            result FAIL "$name"
            sed 's/^/    | /' "$log" | tail -n 100 | cut -c 1-400
            ;;
        esac
    done <"$build/trs"
}

run_tests() # LABEL SECONDS DIRECTORY MAKE-ARGUMENTS...
{
    label=$1 limit=$2 directory=$3
    shift 3
    cd "$directory" || { result FAIL "$label: not built"; return; }
    find . -name '*.trs' -exec rm -f {} +
    before=$(grep -c "^FAIL $label/" "$results")
    bounded "$limit" make -k "$@" >"$build/$label.log" 2>&1
    status=$?
    collect "$label" "$directory"
    if [ $status = 124 ] || [ $status = 137 ]; then
        tail -n 20 "$build/$label.log"
        result FAIL "$label: not done within $limit s"
    # A test that could not even be built has no result of its own.
    elif [ $status != 0 ] && { [ "$(grep -c "^FAIL $label/" "$results")" = "$before" ] ||
                               grep -q ': error: ' "$build/$label.log"; }; then
        grep -nE 'error:|\*\*\*' "$build/$label.log" | head -n 40
        tail -n 20 "$build/$label.log"
        result FAIL "$label: make $*"
    fi
}

# Called after each part that ran tests.
look_for_leftovers() # LABEL
{
    left=$(leftover_processes)
    if [ -n "$left" ]; then sleep 2; left=$(leftover_processes); fi
    for pid in $left; do
        result FAIL "$1: left process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-150)"
        kill -KILL "$pid" 2>/dev/null
    done
    mounts=$(awk -v at="$TMPDIR/" 'index($2, at) == 1 { print $2 }' /proc/mounts)
    test -z "$mounts" || result FAIL "$1: left mounts:" $mounts
    files=$(ls -A "$TMPDIR")
    test -z "$files" || result FAIL "$1: left files in TMPDIR:" $files
    for mount in $mounts; do umount -l "$mount"; done
    rm -rf "${TMPDIR:?}"/*
}

part_lint()
{
    if bounded 120 "$source/tests/lint.sh" "$source"; then result PASS lint; else result FAIL lint; fi
}

part_build()
{
    build_normal || { result FAIL build; return; }
    sed -n '/^drafter .*plugin interface/,/^Installs/p' "$build/normal/build.log" | tee "$build/table"
    if grep -Eq '^( |Man|Unit).*  no  ' "$build/table"; then
        result FAIL "build: something was left out"
    else
        result PASS build
    fi
}

part_image()
{
    if [ -f "$image/boot-args" ] &&
        [ -z "$(cd "$source/guest" && find image agent liveness common -newer "$image/boot-args" -type f)" ]; then
        result PASS "image: there from the last time"
        return
    fi
    if [ ! -f "$image/cache/LIST" ] && [ "$(id -u)" = 0 ] &&
        ! apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; then
        bounded 300 apt-get update -qq >"$build/image.log" 2>&1
    fi
    if bounded 600 "$source/guest/image/build-image.sh" "$image" >>"$build/image.log" 2>&1; then
        result PASS image
    elif [ -f "$image/cache/LIST" ]; then
        tail -n 30 "$build/image.log"
        result FAIL image
    else
        tail -n 5 "$build/image.log"
        result SKIP "image: Debian's packages cannot be downloaded"
    fi
}

part_check()
{
    build_normal >/dev/null || { result FAIL "check: build"; return; }
    # First what the tests are made of, on all processors; the tests themselves measure time.
    bounded 600 make -k -j "$jobs" check TESTS= >"$build/check-programs.log" 2>&1
    run_tests check 900 "$build/normal" check IMAGE_DIR="$image"
    look_for_leftovers check
}

part_root()
{
    [ "$(id -u)" = 0 ] || { result SKIP "root: not root"; return; }
    build_normal >/dev/null || { result FAIL "root: build"; return; }
    run_tests root 1200 "$build/normal" check-root IMAGE_DIR="$image"
    look_for_leftovers root
}

part_dist()
{
    build_normal >/dev/null || { result FAIL "dist: build"; return; }
    # The tests of the unpacked tarball are those that ran already; what dist can break is the build.
    if bounded 900 make -j "$jobs" distcheck TESTS= >"$build/dist.log" 2>&1; then
        result PASS dist
    else
        grep -E 'error|\*\*\*|ERROR' "$build/dist.log"
        tail -n 60 "$build/dist.log"
        result FAIL dist
    fi
}

# What moves data between threads, built again with a sanitizer.
sanitized() # LABEL SANITIZERS DIRECTORY[:TESTS]...
{
    label=$1 sanitizers=$2
    shift 2
    build_in "$label" "core plugins" --enable-sanitizers="$sanitizers" CFLAGS='-g -O1' ||
        { result FAIL "$label: build"; return; }
    CK_TIMEOUT_MULTIPLIER=4
    for set in "$@"; do
        directory=$build/$label/tests/${set%%:*}
        tests=${set#"${set%%:*}"} tests=${tests#:}
        bounded 600 make -k -j "$jobs" -C "$directory" check TESTS= >"$build/$label-programs.log" 2>&1
        if [ -n "$tests" ]; then
            run_tests "$label" 900 "$directory" -j "$jobs" check TESTS="$tests"
        else
            run_tests "$label" 900 "$directory" -j "$jobs" check
        fi
    done
    CK_TIMEOUT_MULTIPLIER=2
    look_for_leftovers "$label"
}

part_address()
{
    sanitized address address,undefined unit conformance integration crash fuzz \
        "tls:test-tls-handshake test-tls-attacks test-tls-x509 test-tls-flood"
}

part_thread()
{
    # ThreadSanitizer's memory has a fixed place, which some kernels give to others.
    ! setarch -R true 2>/dev/null || personality="setarch -R"
    sanitized thread thread integration "conformance:transport storage" "tls:test-tls-flood"
    personality=
}

# Does this host lack what a line of expected-skips.txt says?
lacks() # WHAT
{
    case $1 in
    -) true ;;
    root) [ "$(id -u)" != 0 ] ;;
    fuse) [ ! -c /dev/fuse ] ;;
    network) [ ! -f "$image/cache/LIST" ] ;;
    *) echo "tests/expected-skips.txt: what is \"$1\"?" >&2; false ;;
    esac
}

# Turns skips that nobody expects into failures.
judge_skips()
{
    grep '^SKIP' "$results" | while read -r _ skipped; do
        name=${skipped%%:*}
        expected=no
        while read -r lack pattern _; do
            case $lack in '' | '#'*) continue ;; esac
            # shellcheck disable=SC2254
            case $name in $pattern) ! lacks "$lack" || expected=yes ;; esac
        done <"$source/tests/expected-skips.txt"
        test $expected = yes || echo "FAIL $name: skipped, which tests/expected-skips.txt does not expect"
    done >"$build/unexpected"
    cat "$build/unexpected" >>"$results"
}

[ "$install" = no ] || ! command -v apt-get >/dev/null || install_packages
say "autogen"
prepare_source
for part in $parts; do
    say "$part"
    start=$(date +%s)
    "part_$part"
    printf '%s %s\n' "$part" $(($(date +%s) - start)) >>"$times"
    echo "($part took $(($(date +%s) - start)) s)"
done

test "${CI:-}" != true || judge_skips
say "seconds"
cat "$times"
say "result"
grep -E '^(FAIL|SKIP)' "$results"
count()
{
    grep -c "^$1" "$results"
}
failed=$(count FAIL) passed=$(count PASS)
echo "$passed passed, $failed failed, $(count SKIP) skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
