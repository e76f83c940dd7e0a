#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The power is cut at random moments (CUTS, 20) while a client writes to a device with an overlay, on a disk of its own.
# Whatever was acknowledged as durable is there afterwards, and nothing starts as if nothing had happened.
set -u
tests=$abs_top_srcdir/tests
# shellcheck source=../lib.sh
. "$tests/lib.sh"
lab_begin
RANDOM=${SEED:=$$}
acked=0
exposures=(fuse nbd loop)

run() { # EXPOSURE [LAB OPTION...] -- [check]
    local exposure=$1; shift
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    "$tests/lab/lab" --seconds 120 --memory 512 --disk "$lab/disk" --program mkfs.ext4 "${options[@]}" \
        --file "$tests/lab/power-guest.sh" bash "$tests/lab/power-guest.sh" "$exposure" "$acked" "$@" >"$lab/said" 2>&1
}

told() { tail -n 5 "$lab/said"; echo "SEED=$SEED"; }

for cut in $(seq "${CUTS:-20}"); do
    exposure=${exposures[cut % 3]} ms=$((RANDOM % 3000)) after=()
    [ $((cut % 4)) = 0 ] || after=(--cut-after verified) # else while it starts and looks
    run "$exposure" --cut $ms "${after[@]}" --
    status=$?
    [ $status != 77 ] || { cat "$lab/said"; exit 77; }
    [ $status = 137 ] || lab_fail "cut $cut, $exposure: status $status: $(told)"
    ! grep FAIL "$lab/said" || lab_fail "cut $cut, $exposure, after $ms ms: $(told)"
    last=$(sed -n 's/^acked \([0-9]*\)$/\1/p' "$lab/said" | tail -n 1)
    echo "cut $cut $ms ms after ${after[1]:-its begin}, $exposure: $acked, then ${last:-no} records"
    acked=${last:-$acked}
done
run fuse -- check || lab_fail "after the last cut: $(told)"
grep -q "^verified $acked$" "$lab/said" || lab_fail "after the last cut: $(told)"
[ "$acked" -gt 0 ] || lab_fail "nothing was ever written: $(told)"
echo "all $acked records are there"
lab_leaks
