#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# In the lab's guest; see firecracker.sh. Arguments: FIRECRACKER JAILER MOVES PYTHON
set -u
export DRAFTER_TEST_PATIENCE=240 DRAFTER_TEST_FIRECRACKER=$1 DRAFTER_TEST_JAILER=$2 MOVES=$3
python=$4
export TESTGUEST=$abs_top_builddir/guest/testguest/testguest-pvh.elf TSC_KHZ=/lab/tsc-khz
cd "$abs_top_srcdir/tests/e2e" || exit 1
[ -c /dev/kvm ] || { echo "FAIL: the lab has no /dev/kvm"; exit 1; }
for exposure in nbd fuse; do
    for test in firecracker-moves firecracker-jail firecracker-adopt; do
        echo "# $test, devices by $exposure"
        DRAFTER_TEST_EXPOSURE=$exposure "$python" $test.py || { echo "FAIL: $test, devices by $exposure"; exit 1; }
        ! ls /sys/block/nbd*/pid 2>/dev/null || { echo "FAIL: devices of the kernel are left"; exit 1; }
    done
done
