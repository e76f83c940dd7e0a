#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Firecracker and its jailer on the lab's /dev/kvm: a VM moves while it verifies its memory, which is a
# block device of the kernel's NBD client, and a FUSE file. DRAFTER_TEST_FIRECRACKER and
# DRAFTER_TEST_JAILER say where they are, if not in PATH; MOVES how often.
set -u
firecracker=${DRAFTER_TEST_FIRECRACKER:-$(command -v firecracker)} || { echo "SKIP: no firecracker in PATH"; exit 77; }
jailer=${DRAFTER_TEST_JAILER:-$(command -v jailer)} || { echo "SKIP: no jailer in PATH"; exit 77; }
tests=$abs_top_srcdir/tests
beats=$abs_top_builddir/tests/tools/drafter-heartbeats
python=/usr/bin/python3
[ -x $python ] || { echo "SKIP: no $python"; exit 77; }
library=$($python -c 'import sysconfig; print(sysconfig.get_paths()["stdlib"])')
[ -x "$beats" ] || { echo "SKIP: $beats is not built"; exit 77; }
exec "$tests/lab/lab" --seconds 3600 --memory 1536 --module kvm-amd --file $python --program cp --program env \
    --file "$library" --file "$firecracker" --file "$jailer" --file "$beats" \
    --file "$abs_top_builddir/guest/testguest" --file "$tests/e2e" --file "$tests/bench" --file "$tests/tools" \
    --file "$tests/lab/firecracker-guest.sh" \
    bash "$tests/lab/firecracker-guest.sh" "$firecracker" "$jailer" "${MOVES:-3}" "$(readlink -f $python)"
