#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Packages beside zstd -3 -T2 on the same bytes, by turns and in memory: seconds to pack and unpack, bytes, and making a
# package again after 1 % changed.
set -eu
. "$abs_top_srcdir/tests/bench/lib.sh"
work=$(mktemp -d -p "${BENCH_MEMORY:-/dev/shm}")
trap 'rm -rf "$work"' EXIT
{ tar cf - /usr/lib /usr/bin 2>/dev/null || :; } | head -c "${BENCH_BYTES:-268435456}" >"$work/disk"
size=$(stat -c %s "$work/disk")
packager() { "$DRAFTER" -q packager -threads 2 -devices "[{\"name\":\"disk\",\"path\":\"$work/$1\"}]" "${@:2}"; }

# timed NAME COMMAND...: appends the seconds to NAME
timed() {
    local started
    started=$(date +%s%N)
    "${@:2}"
    echo "$(($(date +%s%N) - started))" | awk '{ print $1 / 1e9 }' >>"$work/$1.times"
}

for _ in 1 2 3 4 5; do
    timed their-pack zstd -3 -T2 -q -f "$work/disk" -o "$work/theirs"
    timed our-pack packager disk -package-path "$work/ours"
    timed their-unpack zstd -d -q -f "$work/theirs" -o "$work/out"
    rm "$work/out"
    timed our-unpack packager out -extract -package-path "$work/ours"
    cmp "$work/out" "$work/disk"
    rm "$work/out"
done
dd if=/dev/urandom of="$work/disk" bs=4096 seek=999 count=$((size / 409600)) conv=notrunc status=none
for _ in 1 2 3; do
    timed again packager disk -package-path "$work/new" -reuse "$work/ours"
done
of() { median <"$work/$1.times"; }
emit package-pack-seconds "$(of our-pack)" "zstd -3 -T2" "$(of their-pack)"
emit package-unpack-seconds "$(of our-unpack)" "zstd -d" "$(of their-unpack)"
emit package-bytes "$(stat -c %s "$work/ours")" "zstd -3 -T2" "$(stat -c %s "$work/theirs")"
emit package-again-seconds "$(of again)" "packing it all" "$(of our-pack)"
