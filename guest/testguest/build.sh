#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds testguest-pvh.elf (QEMU) and testguest-fc.elf (Firecracker) into a directory.
# usage: build.sh OUTDIR
set -eu

fail() { echo "testguest/build.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: build.sh OUTDIR"
src=$(cd "$(dirname "$0")" && pwd)
cc=${TESTGUEST_CC:-${CC:-cc}}
# shellcheck disable=SC2086 # CC may hold options
case $($cc -dumpmachine) in
x86_64-*) ;;
*) fail "needs a compiler for x86-64: set TESTGUEST_CC=x86_64-linux-gnu-gcc" ;;
esac
mkdir -p "$1"
out=$(cd "$1" && pwd)
tmp=$(mktemp -d "$out/.testguest.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

flags="-std=gnu11 -O2 -Wall -Wextra -ffreestanding -fno-pic -mno-red-zone -mgeneral-regs-only
    -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none"
# memset must not become a call of itself; compilers differ in how to say so.
# shellcheck disable=SC2086
for flag in -fno-tree-loop-distribute-patterns -fno-builtin; do
    ! $cc -Werror $flag -E -x c /dev/null >/dev/null 2>&1 || flags="$flags $flag"
done
link="-nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack
    -Wl,--no-warn-rwx-segments -Wl,-s"
for variant in pvh fc; do
    define=
    [ $variant = fc ] || define=-DWITH_PVH
    # shellcheck disable=SC2086
    $cc $flags $link $define -T "$src/testguest.ld" -o "$tmp/testguest-$variant.elf" \
        "$src/start.S" "$src/main.c" "$src/boot.c" "$src/console.c"
done
mv "$tmp"/testguest-*.elf "$out/"
