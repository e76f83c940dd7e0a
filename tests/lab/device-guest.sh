#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# In the lab's guest: the kernel's NBD client for real. $1 is the conformance program of devices.
set -u
device=$1 vm=/run/vm node=/run/vm/memory
fail() { echo "FAIL: $*"; exit 1; }
connected() { ls /sys/block/nbd*/pid 2>/dev/null | wc -l; }

until_true() { # SECONDS COMMAND...
    local end=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

serve() {
    "$device" serve nbd "$vm" 48 >/tmp/ready 2>/tmp/served &
    served=$!
    until_true 20 grep -q ready /tmp/ready || fail "nothing is served: $(cat /tmp/served)"
}

mkdir -p "$vm" /mnt/disk
echo "# a file system on it, checked data, trim"
serve
[ -b "$node" ] || fail "$node is no block device"
grep -q "$node" /proc/mounts || fail "/run is nodev, so the node is to be bound there"
[ "$(blockdev --getsize64 "$node")" = $((48 << 20)) ] || fail "the size is wrong"
grep -q "^drafter:$vm/memory$" /sys/block/nbd*/backend || fail "the device does not say whose it is"
mkfs.ext4 -q -F -E nodiscard "$node" || fail mkfs
mount "$node" /mnt/disk || fail mount
fio --name=verify --directory=/mnt/disk --size=6m --rw=randwrite --bsrange=512-128k --direct=0 --fsync=64 \
    --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/tmp/fio 2>&1 || fail "fio: $(cat /tmp/fio)"
fio --name=direct --directory=/mnt/disk --size=2m --rw=randrw --bs=4k --direct=1 --iodepth=16 --ioengine=psync \
    --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio 2>&1 || fail "fio, direct: $(cat /tmp/fio)"
rm /mnt/disk/*.0 && sync && fstrim /mnt/disk || fail fstrim
umount /mnt/disk || fail umount
fsck.ext4 -f -n "$node" >/tmp/fsck 2>&1 || fail "fsck: $(cat /tmp/fsck)"

echo "# the process is killed while somebody writes; the next one finds what it left"
dd if=/dev/zero of="$node" bs=1M count=40 conv=fsync 2>/tmp/dd &
writer=$!
sleep 0.3
kill -KILL $served
[ "$(connected)" = 1 ] || fail "there is nothing left of it"
serve
until_true 10 eval '! kill -0 $writer 2>/dev/null' || fail "the writer hangs"
until_true 10 eval '[ "$(connected)" = 1 ]' || fail "the device of the dead process is still there"
dd if="$node" of=/dev/null bs=1M count=4 2>/dev/null || fail "the new device cannot be read"

echo "# the process is killed when nobody else has the device open: it goes by itself"
kill -KILL $served
wait $served 2>/dev/null
until_true 30 eval '[ "$(connected)" = 0 ]' || fail "the device stays"

echo "# somebody disconnects the device"
serve
nbd-client -d "/dev/$(basename "$(dirname "$(ls /sys/block/nbd*/pid)")")" >/dev/null || fail "nbd-client"
until_true 20 grep -q "cannot be renewed" /tmp/served || fail "nobody says so"
kill -KILL $served
echo "# without the module"
umount "$node" 2>/dev/null
until_true 30 rmmod nbd || fail "rmmod nbd"
"$device" serve nbd "$vm" 48 2>&1 | grep -q "modprobe nbd" || fail "the message does not say what to do"
"$device" nbd | grep -q "nbd is not tested: the kernel's NBD client is not there" || fail "the probe"
echo "all is well"
