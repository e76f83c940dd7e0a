#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Firecracker on the lab's /dev/kvm, the fork in its jailer and then a release in its own: a guest that verifies its memory moves and
# outlives its drafter; a stock kernel with redis moves between hosts of a slow network. Devices are FUSE files and block
# devices of the kernel's NBD client. DRAFTER_TEST_FIRECRACKER and DRAFTER_TEST_JAILER say where the fork is, if not in PATH,
# DRAFTER_TEST_FIRECRACKER_STOCK where a release is, DRAFTER_TEST_JAILER_STOCK its jailer (without one it runs without: in a jail it
# must be linked statically); MOVES how often; LAB_EXPOSURES=nbd for a part.
# IMAGE_DIR holds the guest.
set -u
firecracker=${DRAFTER_TEST_FIRECRACKER:-$(command -v firecracker)} || { echo "SKIP: no firecracker in PATH"; exit 77; }
jailer=${DRAFTER_TEST_JAILER:-$(command -v jailer)} || { echo "SKIP: no jailer in PATH"; exit 77; }
tests=$abs_top_srcdir/tests
beats=$abs_top_builddir/tests/tools/drafter-heartbeats
python=/usr/bin/python3
image=${IMAGE_DIR:-$abs_top_srcdir/out/image}
[ -x $python ] || { echo "SKIP: no $python"; exit 77; }
library=$($python -c 'import sysconfig; print(sysconfig.get_paths()["stdlib"])')
[ -x "$beats" ] || { echo "SKIP: $beats is not built"; exit 77; }
python=$(readlink -f $python)

options=()
for module in kvm-amd bridge sch_netem nf_tables nft_ct nft_chain_nat nft_masq nft_nat nft_fib_inet nft_reject_inet; do
    options+=(--module $module)
done
for file in kernel initramfs disk boot-args; do options+=(--file "$image/$file:/image/$file"); done
for program in cp env unshare nsenter sleep nft; do options+=(--program $program); done
for file in "$python" "$library" "$beats" "$abs_top_builddir/guest/testguest" "$tests"/{e2e,bench,tools} "$tests"/lab/firecracker-{guest.sh,redis.py}; do
    options+=(--file "$file")
done

run() { # FIRECRACKER [JAILER]
    [ -z "${2:-}" ] || options+=(--file "$2")
    "$tests/lab/lab" --seconds 3600 --memory 4096 "${options[@]}" --file "$1" \
        env MOVES="${MOVES:-2}" bash "$tests/lab/firecracker-guest.sh" "$1" "${2:-}" "$python"
}

echo "## $firecracker, jailed"
run "$firecracker" "$jailer" || exit
[ -n "${DRAFTER_TEST_FIRECRACKER_STOCK:-}" ] || { echo "no release of Firecracker: DRAFTER_TEST_FIRECRACKER_STOCK is not set"; exit 0; }
echo "## $DRAFTER_TEST_FIRECRACKER_STOCK"
run "$DRAFTER_TEST_FIRECRACKER_STOCK" "${DRAFTER_TEST_JAILER_STOCK:-}"
