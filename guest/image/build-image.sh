#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Builds a bootable guest (kernel, initramfs, disk with redis and the agent) from Debian packages.
# usage: build-image.sh OUTDIR
#
# Needs neither root, nor a mount, nor a chroot: packages are unpacked, files are picked, mkfs.ext4 -d
# fills the disk. Packages are kept in OUTDIR/cache; a second run uses them and needs no network.
# The same packages and the same sources give the same bytes.
#
# Environment: DISK_SIZE (128M, sparse), CC (for the agent), SOURCE_DATE_EPOCH.
set -eu
export LC_ALL=C
umask 022

fail() { echo "build-image.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: build-image.sh OUTDIR"
PATH=$PATH:/usr/sbin:/sbin
src=$(cd "$(dirname "$0")" && pwd)
guest=$(dirname "$src")
for tool in dpkg-deb depmod modprobe cpio zstd lz4 mkfs.ext4 debugfs readelf objcopy od; do
    command -v "$tool" >/dev/null ||
        fail "$tool is missing: apt-get install dpkg kmod cpio zstd lz4 e2fsprogs binutils coreutils"
done
mkdir -p "$1/cache"
out=$(cd "$1" && pwd)
tmp=$(mktemp -d "$out/.image.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600}
export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
packages="busybox-static redis-server redis-tools libc6 libatomic1 libcap2 libgcc-s1 libgcrypt20
    libgpg-error0 libjemalloc2 liblz4-1 liblzf1 liblzma5 libssl3 libstdc++6 libsystemd0 libzstd1"

# ---- packages: cache/LIST names the files; it is written last, so that it is there only if all are

download() {
    command -v apt-get >/dev/null || fail "apt-get is missing: the guest is made of Debian packages"
    local kernel fetch
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$kernel" ] || fail "no package linux-image-cloud-amd64: run apt-get update"
    fetch=$tmp/fetch
    mkdir "$fetch"
    # As root, apt would first complain that its own user cannot write here.
    # shellcheck disable=SC2086
    (cd "$fetch" && apt-get -qq -o APT::Sandbox::User=root download $packages "$kernel") ||
        fail "cannot download the packages: check the network and run apt-get update"
    (cd "$fetch" && ls ./*.deb) >"$tmp/LIST"
    mv "$fetch"/*.deb "$out/cache/"
    mv "$tmp/LIST" "$out/cache/LIST"
}
[ -f "$out/cache/LIST" ] || download
mkdir "$tmp/debs"
while read -r deb; do
    dpkg-deb -x "$out/cache/$deb" "$tmp/debs" ||
        fail "cannot unpack $out/cache/$deb: remove $out/cache and run again"
done <"$out/cache/LIST"
kv=$(ls "$tmp/debs/lib/modules")

# ---- kernel: the bzImage, and the ELF that is LZ4-compressed in it

read_u8() { od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' '; }
read_u32() { od -An -tu4 --endian=little -j "$2" -N 4 "$1" | tr -d ' '; }

extract_vmlinux() { # BZIMAGE ELF, by the fields of the x86 boot protocol
    local start length
    start=$((($(read_u8 "$1" 497) + 1) * 512 + $(read_u32 "$1" 584)))
    length=$(($(read_u32 "$1" 588) - 4)) # the last four bytes are the size when unpacked
    tail -c +$((start + 1)) "$1" | head -c $length | lz4 -dcq >"$2" 2>/dev/null ||
        fail "the kernel's payload is not LZ4: cannot make vmlinux"
    [ "$(head -c 4 "$2" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || fail "vmlinux is not an ELF file"
}
cp "$tmp/debs/boot/vmlinuz-$kv" "$tmp/vmlinuz"
extract_vmlinux "$tmp/vmlinuz" "$tmp/vmlinux"

# ---- initramfs: a small init, and for each virtio device the modules that it needs, in order

depmod -b "$tmp/debs" "$kv"
ir=$tmp/ir
mkdir -p "$ir/dev" "$ir/proc" "$ir/sys" "$ir/sysroot" "$ir/modules"

add_modules() { # DIRECTORY MODULE...
    local dir=$ir/modules/$1 n=10 path; shift
    mkdir "$dir"
    for module in "$@"; do
        modprobe -d "$tmp/debs" -S "$kv" --show-depends "$module" || fail "no kernel module $module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$tmp/load-order"
    while read -r path; do
        n=$((n + 1))
        case $dir in
        */bus) ;;
        *) [ -z "$(find "$ir/modules/bus" -name "*-$(basename "$path")")" ] || continue ;;
        esac
        # Without signature and symbols: checking the one and copying the other costs boot time.
        objcopy --strip-debug "$path" "$dir/$n-$(basename "$path")"
    done <"$tmp/load-order"
}
add_modules bus virtio_mmio virtio_pci
add_modules 1 virtio_net
add_modules 2 virtio_blk
add_modules 3 virtio_console
add_modules 4 virtio-rng
add_modules 19 vmw_vsock_virtio_transport
guest_cc=${CC:-$(command -v musl-gcc || echo cc)}
# shellcheck disable=SC2086
$guest_cc -std=c11 -Os -Wall -Wextra -static -s -Wl,--build-id=none \
    -o "$ir/init" "$src/initramfs-init.c" ||
    fail "cannot build a static program: install musl-tools"
stamp() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }
stamp "$ir"
(cd "$ir" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) |
    zstd -q -19 -T1 >"$tmp/initramfs"

# ---- disk

root=$tmp/root
mkdir -p "$root"/{bin,dev,etc,lib,lib64,proc,root,run,sbin,sys,tmp} \
    "$root"/{usr/bin,usr/sbin,var/lib/redis,var/log}
cp -R "$src/rootfs/." "$root/"
chmod 755 "$root"/etc/rc "$root"/etc/drafter/*
cp "$tmp/debs/bin/busybox" "$root/bin/busybox"
for applet in sh ash cat date df dmesg echo free grep halt hostname ip kill ls mount nc poweroff \
    ps reboot sleep sync top umount uptime vi; do
    ln -s busybox "$root/bin/$applet"
done
ln -s ../bin/busybox "$root/sbin/init"
cp -L "$tmp/debs/usr/bin/redis-server" "$root/usr/bin/redis-server"
"$guest/agent/build.sh" "$root/usr/sbin"
# shellcheck disable=SC2086
$guest_cc -std=c11 -Os -Wall -Wextra -static -s -Wl,--build-id=none \
    -o "$root/usr/sbin/drafter-heartbeat" "$src/heartbeat.c"

copy_needed() { # FILE: the libraries that it needs, and those that they need
    local name found
    for name in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        [ ! -e "$root/lib/$name" ] || continue
        found=$(find "$tmp/debs/lib" "$tmp/debs/usr/lib" -name "$name" | sort | head -n 1)
        [ -n "$found" ] || fail "$(basename "$1") needs $name, which none of the packages has"
        cp -L "$found" "$root/lib/$name"
        copy_needed "$root/lib/$name"
    done
}
copy_needed "$root/usr/bin/redis-server"
cp -L "$tmp/debs/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
stamp "$root"
make_disk() {
    local run=
    # Files belong to whoever builds; in a user namespace that is root.
    [ "$(id -u)" -eq 0 ] || run="unshare -Ur"
    truncate -s "${DISK_SIZE:-128M}" "$tmp/disk"
    $run mkfs.ext4 -q -F -L root -m 0 -b 4096 -N 2048 -J size=4 -O ^resize_inode \
        -U 6472616e-7465-7200-8000-000000000001 \
        -E hash_seed=6472616e-7465-7200-8000-000000000002,root_owner=0:0,lazy_itable_init=0,nodiscard \
        -d "$root" "$tmp/disk"
    # The time of the last change of an inode is the one that no tool can set in $root.
    (cd "$root" && find . -mindepth 1 -printf "sif /%P ctime @$SOURCE_DATE_EPOCH\n" |
        sort) >"$tmp/ctimes"
    debugfs -w -f "$tmp/ctimes" "$tmp/disk" >/dev/null 2>&1
    fallocate -d "$tmp/disk" 2>/dev/null || true # zeroes become holes where the file system can
}
make_disk || fail "cannot make the disk: needs root, or unshare -Ur (user namespaces)"
cp "$src/boot-args" "$tmp/boot-args"
# What boots fastest under the microvm machine; see guest/README.md for the figures.
ln -s vmlinux "$tmp/kernel"

for file in vmlinuz vmlinux kernel initramfs disk boot-args; do
    mv -f "$tmp/$file" "$out/$file"
done
(cd "$out" && du -h --apparent-size vmlinuz vmlinux initramfs disk && du -h disk)
