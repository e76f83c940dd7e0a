#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The test guest boots and beats; its heartbeats go on unbroken through a save and a load of the device
# state over a shared memory file; and it notices one flipped byte of its memory.
. "$(dirname "$0")/lib.sh"
need qemu-system-x86_64 mkfifo dd

"$guest_src/testguest/build.sh" "$work"
truncate -s 48M "$work/memory"
append="tsc_khz=$(tsc_khz) fill=24 dirty=8 rate=20000 key=11 check=1 write=${TEST_WRITE:-sparse}"

start() { # NAME [QEMU OPTION...]
    local name=$1; shift
    qmp_open "$name"
    qemu-system-x86_64 -M microvm,acpi=off,pit=off,pic=off,rtc=off,memory-backend=mem \
        -accel tcg -cpu max -m 48 -nodefaults -no-user-config -display none -no-reboot \
        -object memory-backend-file,id=mem,size=48M,share=on,mem-path="$work/memory" \
        -chardev file,id=serial,path="$work/$name.log" -serial chardev:serial \
        -chardev pipe,id=qmp,path="$work/$name" -mon chardev=qmp,mode=control \
        -kernel "$work/testguest-pvh.elf" -append "$append" "$@" 8>&- 9>&- &
    children="$children $!"
    pid=$!
    qmp '{"execute":"qmp_capabilities"}' >/dev/null
    qmp '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[
        {"capability":"x-ignore-shared","state":true}]}}' >/dev/null
}
beats() { [ "$(grep -c '^HB ' "$work/$1.log")" -ge "$2" ]; }
says() { grep -q "$2" "$work/$1.log"; }
completed() { qmp '{"execute":"query-migrate"}' | grep -q '"status": "completed"'; }
paused() { qmp '{"execute":"query-status"}' | grep -q '"status": "paused"'; }

start first
until_true 20 says first '^READY pages=6144 dirty=2048'
until_true 20 beats first 300
qmp '{"execute":"stop"}' >/dev/null
qmp "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat >$work/state\"}}" >/dev/null
until_true 20 completed
qmp '{"execute":"quit"}' >/dev/null
wait "$pid"

start second -incoming defer
qmp "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"exec:cat $work/state\"}}" >/dev/null
until_true 20 paused
qmp '{"execute":"cont"}' >/dev/null
until_true 20 says second '^CHK'

# The two logs are one stream: a line may even begin in the first and end in the second.
cat "$work/first.log" "$work/second.log" >"$work/all"
awk '/^HB /{ if ($2 != last + 1) { print "after HB " last " came " $0; exit 1 } last = $2 }' \
    "$work/all" || fail "heartbeats are not consecutive"
! grep -q '^BAD' "$work/all" || fail "$(grep -m1 '^BAD' "$work/all")"
grep -q '^CHK ok=[1-9][0-9]* bad=0$' "$work/all" || fail "nothing was verified"

# Page 100, which is in the dirty set, as it was some sweeps ago.
qmp '{"execute":"stop"}' >/dev/null
dd if="$work/memory" of="$work/page" bs=4096 skip=$((512 + 100)) count=1 status=none
qmp '{"execute":"cont"}' >/dev/null
sleep 0.3
qmp '{"execute":"stop"}' >/dev/null
dd if="$work/page" of="$work/memory" bs=4096 seek=$((512 + 100)) conv=notrunc status=none
qmp '{"execute":"cont"}' >/dev/null
until_true 20 says second '^BAD page=100 want='

# One byte outside the dirty set, in the middle of page 5000.
qmp '{"execute":"stop"}' >/dev/null
offset=$((0x200000 + 5000 * 4096 + 2048))
byte=$(dd if="$work/memory" bs=1 skip=$offset count=1 status=none | od -An -tu1)
# shellcheck disable=SC2059
printf "$(printf '\\%03o' $((byte ^ 1)))" |
    dd of="$work/memory" bs=1 seek=$offset conv=notrunc status=none
qmp '{"execute":"cont"}' >/dev/null
until_true 20 says second '^BAD page=5000 want='
qmp '{"execute":"quit"}' >/dev/null
echo "ok: $(grep -c '^HB ' "$work/all") heartbeats, $(grep -m1 '^BAD' "$work/second.log")"
