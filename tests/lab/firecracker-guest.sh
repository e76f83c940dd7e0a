#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# In the lab's guest; see firecracker.sh. Arguments: FIRECRACKER JAILER PYTHON; no jailer: ""
set -u
export DRAFTER_TEST_PATIENCE=240 DRAFTER_TEST_FIRECRACKER=$1 DRAFTER_TEST_JAILER=$2 IMAGE=/image PYTHONUNBUFFERED=1
python=$3 tests=$abs_top_srcdir/tests
export TESTGUEST=$abs_top_builddir/guest/testguest/testguest-pvh.elf TSC_KHZ=/lab/tsc-khz
[ -c /dev/kvm ] || { echo "FAIL: the lab has no /dev/kvm"; exit 1; }

run() { # NAME SCRIPT
    echo "# $1, devices by $DRAFTER_TEST_EXPOSURE, after $SECONDS s"
    "$python" "$2" || { echo "FAIL: $1, devices by $DRAFTER_TEST_EXPOSURE"; exit 1; }
    ! ls /sys/block/nbd*/pid 2>/dev/null || { echo "FAIL: devices of the kernel are left"; exit 1; }
}

for DRAFTER_TEST_EXPOSURE in ${LAB_EXPOSURES:-fuse nbd}; do
    export DRAFTER_TEST_EXPOSURE
    run moves "$tests/e2e/firecracker-moves.py"
    [ -z "$2" ] || run jail "$tests/e2e/firecracker-jail.py"
    # A FUSE session can be taken over from Linux 6.9 on.
    [ $DRAFTER_TEST_EXPOSURE = fuse ] || run adopt "$tests/e2e/firecracker-adopt.py"
    run redis "$tests/lab/firecracker-redis.py"
done
echo "# done after $SECONDS s"
