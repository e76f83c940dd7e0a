#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The Linux guest boots, tells that it lives, and redis answers through the port forward. Needs an image
# that was built before (make -C guest image), because building one needs the network the first time.
. "$(dirname "$0")/lib.sh"
need qemu-system-x86_64
image=${IMAGE_DIR:-$guest_src/image-out}
[ -f "$image/boot-args" ] || skip "no guest image in $image: run make -C guest image"
image=$(cd "$image" && pwd)

# The liveness port writes to a file, so that nothing has to listen. Port 0 would be best, but QEMU does
# not tell which one it then got.
port=$((20000 + RANDOM % 10000))
qemu-system-x86_64 -M microvm,acpi=on,pit=off,pic=off,rtc=on -accel tcg -cpu max -m 256 \
    -nodefaults -no-user-config -display none -no-reboot -chardev file,id=con,path="$work/console.log" -serial chardev:con \
    -kernel "$image/kernel" -initrd "$image/initramfs" \
    -append "$(cat "$image/boot-args") tsc_early_khz=$(tsc_khz)" \
    -drive id=r,if=none,format=raw,snapshot=on,file="$image/disk" -device virtio-blk-device,drive=r \
    -netdev user,id=n,hostfwd=tcp:127.0.0.1:$port-:6379 -device virtio-net-device,netdev=n \
    -device virtio-serial-device \
    -chardev file,id=live,path="$work/live.log" \
    -device virtserialport,chardev=live,name=org.drafter.liveness &
children="$children $!"

until_true 25 grep -qs '^alive$' "$work/live.log"
exec 7<>/dev/tcp/127.0.0.1/$port
printf 'SET k v\r\nGET k\r\n' >&7
read -r -t 3 -u 7 answer
[ "$answer" = $'+OK\r' ] || fail "redis answered SET with $answer"
read -r -t 3 -u 7 answer && read -r -t 3 -u 7 answer
[ "$answer" = $'v\r' ] || fail "redis answered GET with $answer"
echo "ok: booted and serves"
