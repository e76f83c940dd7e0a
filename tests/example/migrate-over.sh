#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# migrate-over.sh PROGRAM PLUGIN WORK [MOVER]: moves a VM from one peer to another over streams of a transport plugin.
# With MOVER, a program that embeds drafter, it is that which starts the peers, moves the VM and stops it.
#
# VMM and device exposure are the null ones: no root, no hypervisor.  The null VM verifies its memory.
set -eu
program=$1
plugin=$2
mover=${4-}
work=$(mktemp -d "$3/migrate.XXXXXX")
pids=
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || true; done' EXIT

DRAFTER_PLUGIN_PATH=$(find "$3/root" -name 'drafter-*.so' -exec dirname {} + | sort -u | paste -sd:)
export DRAFTER_PLUGIN_PATH

fail()
{
    echo "migrate-over: $*" >&2
    for log in "$work"/*.log; do
        echo "--- $log" >&2
        tail -n 20 "$log" >&2
    done
    exit 1
}

# config NAME ROLE OPTIONS-OF-ROLE: common part of a node's file, then the devices with `output` or `base` below NAME
config()
{
    key=base
    test "$2" = peer || key=output
    mkdir -p "$work/$1"
    cat <<END
[drafter]
role = $2
name = vm
run-directory = $work/run-$1
state-directory = $work/state-$1
[vmm:vm]
plugin = null
dirty-rate = 500
[exposure:files]
plugin = null
[transport:example]
plugin = $plugin
prefix = drafter-test-$$-
[$2]
vmm = vm
$3
END
    for device in kernel state memory config; do
        echo "[device:$device]"
        echo "$key = $work/$1/$device"
        test "$device$2" != kernelsnapshotter || echo "input = $work/kernel"
    done
}

peer_options="exposure = files
transport = example"

# await EVENT NODE: until the node's log has it
await()
{
    for _ in $(seq 600); do
        ! grep -q "\"event\":\"$1\"" "$work/$2.log" || return 0
        sleep 0.05
    done
    fail "no '$1' from $2"
}

printf 'a kernel that nobody runs' >"$work/kernel"
config a snapshotter "memory-size = 16M
liveness = no
agent = no
settle = 100ms" >"$work/snapshot.ini"
"$program" --config "$work/snapshot.ini" 2>"$work/snapshot.log" || fail "no snapshot"
if test -n "$mover"; then listen=; else listen='listen = source'; fi
config a peer "$peer_options
$listen" >"$work/a.ini"
config b peer "$peer_options
connect = source
disable-postcopy-migration = yes" >"$work/b.ini"

if test -n "$mover"; then
    timeout 120 "$mover" "$program" "$work/a.ini" "$work/b.ini" source >"$work/mover.log" 2>&1 ||
        fail "$mover ended with $?"
    printf 'first: %s\n' resumed moved >"$work/wanted"
    printf 'second: %s\n' resumed arrived suspended | cat - "$work/wanted" | while read -r line; do
        grep -qx "$line" "$work/mover.log" || fail "no '$line'"
    done
    grep -qx 'second is running' "$work/mover.log" || fail "it was not asked"
    left=$(find "$work"/run-* -name '*.control')
    for process in /proc/[0-9]*; do
        ! tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qF "$work/run-" || left="$left $process"
        ! tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qF "$work/a.ini" || left="$left $process"
    done
    test -z "$left" || fail "left behind: $left"
    echo "a program moved a VM"
    exit 0
fi
"$program" --config "$work/a.ini" 2>"$work/a.log" &
a=$!
pids=$a
await listening a
"$program" --config "$work/b.ini" 2>"$work/b.log" &
b=$!
pids="$a $b"
await arrived b
wait "$a" || fail "the source ended with $?"
kill "$b"
wait "$b" || fail "the destination ended with $?"
pids=
grep -q '"event":"suspended"' "$work/b.log" || fail "the destination did not save the VM"
echo "a VM moved over $(basename "$plugin")"
