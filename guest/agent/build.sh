#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds drafter-agent and drafter-liveness as small static programs, for use in a guest.
# usage: build.sh OUTDIR      CC overrides the compiler (musl-gcc if there is one, else cc)
set -eu

fail() { echo "agent/build.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: build.sh OUTDIR"
src=$(cd "$(dirname "$0")" && pwd)
if [ -z "${CC:-}" ]; then
    CC=cc
    ! command -v musl-gcc >/dev/null || CC=musl-gcc
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
tmp=$(mktemp -d "$out/.agent.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# musl-gcc does not look for the kernel's headers where the distribution has them.
flags="-std=c11 -Os -Wall -Wextra -static -s -Wl,--build-id=none -idirafter /usr/include"
multiarch=$($CC -print-multiarch 2>/dev/null || :)
[ -z "$multiarch" ] || flags="$flags -idirafter /usr/include/$multiarch"
# shellcheck disable=SC2086
$CC $flags -o "$tmp/drafter-agent" "$src/agent.c" "$src/hook.c" "$src/message.c" \
    "$src/renew.c" "$src/../common/channel.c" ||
    fail "cannot build a static program: install musl-tools, or the static libc of $CC"
# shellcheck disable=SC2086
$CC $flags -o "$tmp/drafter-liveness" "$src/../liveness/liveness.c" "$src/../common/channel.c"
mv "$tmp/drafter-agent" "$tmp/drafter-liveness" "$out/"
