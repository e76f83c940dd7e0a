#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Devices of the kernel's NBD client, in the lab: the conformance suite; moves of a VM between ways to show
# its devices; then file systems, leftovers, and what happens without the module.
set -u
device=$abs_top_builddir/tests/conformance/device
tests=$abs_top_srcdir/tests
test -x "$device" || { echo "SKIP: $device is not built"; exit 77; }
# shellcheck disable=SC2016
CK_TIMEOUT_MULTIPLIER=3 exec "$tests/lab/lab" --seconds 280 --file "$device" --program fio \
    --program nbd-client --program fstrim --file "$tests/lab/device-guest.sh" --file "$tests/lab/moves.sh" \
    --file "$tests/lib.sh" \
    bash -c '"$1" nbd && bash "$2"/moves.sh nbd fuse nbd && bash "$2"/device-guest.sh "$1"' \
    lab "$device" "$tests/lab"
