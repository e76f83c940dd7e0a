#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# In the lab's guest; see power.sh.  Arguments: EXPOSURE ACKED; looks for what was acknowledged until the last cut, and
# then writes on, each record told of once it is durable, until the power is cut.
set -u
exposure=$1 acked=$2 blocks=256 home=/mnt/power
fail() { echo "FAIL: $*"; exit 1; }

mkdir -p /mnt/power
if [ "$acked" = 0 ]; then # whatever an earlier cut left of it
    mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard /dev/vdb || fail "mkfs"
fi
mount /dev/vdb $home || fail "the file system cannot be mounted"
[ -e $home/base ] || { dd if=/dev/zero of=$home/base bs=4096 count=$blocks conv=fsync 2>/dev/null && sync; }
cat >/run/mounter.ini <<CONFIG
[drafter]
role = mounter
state-directory = $home
run-directory = /run/drafter
[exposure:shown]
plugin = $exposure
[mounter]
exposure = shown
[device:disk]
base = $home/base
overlay = $home/overlay
state = $home/map
CONFIG

serve() {
    "$DRAFTER" --config /run/mounter.ini >/run/paths 2>/run/log &
    node=$!
    for _ in $(seq 200); do
        file=$(sed -n 's/^disk //p' /run/paths)
        [ -z "$file" ] || return 0
        kill -0 $node 2>/dev/null || return 1
        sleep 0.05
    done
    fail "nothing is shown: $(cat /run/log)"
}

if ! serve; then # it ran when the power went: only who knows what is in it may say that it is good
    grep -q "was not saved" /run/log || fail "it does not start: $(cat /run/log)"
    [ ! -e $home/overlay ] || "$DRAFTER" check $home/overlay $home/map >/run/checked 2>&1 || fail "the overlay is damaged: $(cat /run/checked)"
    rm $home/vm.ledger
    serve || fail "it does not start: $(cat /run/log)"
fi

# Block b holds the last acknowledged record that went there, or the one that was on its way.
head -c $((blocks * 4096)) "$file" | tr '\0' '\n' | awk -v acked="$acked" -v blocks=$blocks '
    /^[0-9]/ { block = $1 % blocks; if ($1 > have[block]) have[block] = $1; if ($1 > acked + 1) wrong = $1 }
    END {
        if (wrong) { print "record " wrong " was never written"; exit 1 }
        for (n = acked > blocks ? acked - blocks + 1 : 1; n <= acked; n++)
            if (have[n % blocks] < n) { print "record " n " was acknowledged and is lost: " have[n % blocks]; exit 1 }
    }' || fail "after $acked records"
echo "verified $acked"
[ "${3:-write}" = write ] || { kill -TERM $node; wait $node || fail "it does not end: $(cat /run/log)"; umount $home; exit 0; }

n=$acked
while :; do
    n=$((n + 1))
    printf '%-4095d\n' $n | dd of="$file" bs=4096 seek=$((n % blocks)) count=1 conv=notrunc,fsync 2>/dev/null ||
        fail "record $n cannot be written"
    echo "acked $n"
done
