#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A VM that verifies its memory and its disk moves between peers that show devices in different ways:
# moves.sh EXPOSURE..., each move to the next one. Runs in the lab's guest, and anywhere else where the
# plugins can be used.
set -u
# shellcheck source=../lib.sh
. "$abs_top_srcdir/tests/lib.sh"
lab_begin

role() { # NAME ROLE: the head of a configuration
    mkdir -p "$lab/$1"
    printf '[drafter]\nrole = %s\nstate-directory = %s\nrun-directory = %s\n' "$2" "$lab/$1" "$lab/$1/run"
    printf '[vmm:vm]\nplugin = null\ndirty-rate = 500\ndisk-rate = 50\nverify = load\nfill = 4M\n'
}

devices() { # DIRECTORY OPTION
    local device
    for device in kernel state memory config disk; do printf '[device:%s]\n%s = %s/%s\n' $device "$2" "$1" $device; done
}

peer() { # NAME EXPOSURE [FROM]
    {
        role "$1" peer
        printf '[exposure:shown]\nplugin = %s\n' "$2"
        printf '[peer]\nvmm = vm\nexposure = shown\ntransport = unix\nlisten = %s\n' "$lab/$1.sock"
        [ $# -lt 3 ] || printf 'connect = %s\n' "$lab/$3.sock"
        devices "$lab/$1" base
    } >"$lab/$1.ini"
    node_start "$1" "$lab/$1.ini"
}

verified() { # NAME: the guest goes on, and has found nothing wrong
    local log=$lab/$1/run before
    log=$(find "$lab/$1" -name serial.log | head -n 1)
    [ -n "$log" ] || lab_fail "$1: the guest has no serial line"
    before=$(grep -c HB "$log")
    sleep 0.5
    [ "$(grep -c HB "$log")" -gt "$before" ] || lab_fail "$1: the guest stands still"
    ! grep BAD "$log" || lab_fail "$1: the guest has found a bad page"
}

mkdir "$lab/package"
echo kernel >"$lab/kernel"
truncate -s 8M "$lab/disk"
{
    role boot snapshotter
    printf '[snapshotter]\nvmm = vm\nmemory-size = 16M\nliveness = no\nagent = no\n'
    devices "$lab/package" output
} >"$lab/boot.ini"
sed -i "s,^\[device:kernel\]\$,&\ninput = $lab/kernel,; s,^\[device:disk\]\$,&\ninput = $lab/disk," "$lab/boot.ini"
node_start boot "$lab/boot.ini"
node_await boot

last='' number=0
for exposure in "$@"; do
    name=vm$((++number))
    if [ -z "$last" ]; then
        mkdir -p "$lab/$name"
        cp "$lab/package"/* "$lab/$name/"
        peer $name "$exposure"
    else
        peer $name "$exposure" "$last"
        node_event $name arrived
        node_await "$last"
    fi
    node_event $name listening
    verified $name
    echo "$name: on $exposure"
    last=$name
done
node_stop "$last"
# What it wrote is in the files: it goes on from them.
peer "$last" fuse
node_event "$last" listening
verified "$last"
node_stop "$last"
lab_leaks
! ls /sys/block/nbd*/pid 2>/dev/null || lab_fail "devices of the kernel are left"
