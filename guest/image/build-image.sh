#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Builds a bootable guest (kernel, initramfs, disk) from Debian packages: with redis and the agent, or, with --os, with
# what runs the OCI runtime bundle on its second disk.
# usage: build-image.sh [--os] [--cache DIR] [--size BYTES] OUTDIR
#
# Needs neither root, nor a mount, nor a chroot: packages are unpacked, files are picked, mkfs.ext4 -d
# fills the disk. Packages are kept in OUTDIR/cache, or the directory of --cache; a second run uses them and needs no
# network. The same packages and the same sources give the same bytes.
#
# Environment: DISK_SIZE (128M, sparse), CC (for the agent), SOURCE_DATE_EPOCH.
set -eu
export LC_ALL=C
umask 022

usage="usage: build-image.sh [--os] [--cache DIR] [--size BYTES] OUTDIR"
fail() { echo "build-image.sh: $*" >&2; exit 1; }

flavour=redis cache=''
while [ $# -gt 1 ]; do
    case $1 in
    --os) flavour=os ;;
    --cache) cache=$2; shift ;;
    --size) DISK_SIZE=$2; shift ;;
    *) fail "$usage" ;;
    esac
    shift
done
case ${1:-} in '' | -*) fail "$usage" ;; esac
PATH=$PATH:/usr/sbin:/sbin
src=$(cd "$(dirname "$0")" && pwd)
guest=$(dirname "$src")
for tool in dpkg-deb depmod modprobe cpio zstd lz4 mkfs.ext4 debugfs readelf objcopy od; do
    command -v "$tool" >/dev/null ||
        fail "$tool is missing: apt-get install dpkg kmod cpio zstd lz4 e2fsprogs binutils coreutils"
done
mkdir -p "$1" "${cache:=$1/cache}"
out=$(cd "$1" && pwd)
cache=$(cd "$cache" && pwd)
tmp=$(mktemp -d "$out/.image.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600}
export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
packages="busybox-static libc6 libcap2 libgcc-s1 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libsystemd0 libzstd1"
case $flavour in
redis) packages="$packages redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libssl3 libstdc++6" ;;
os) packages="$packages crun libseccomp2 libyajl2
    chrony libbsd0 libedit2 libffi8 libgmp10 libgnutls30 libhogweed6 libidn2-0 libmd0 libnettle8 libp11-kit0 libtasn1-6
    libtinfo6 libunistring2" ;;
esac

# ---- packages: cache/LIST names the files that are complete

cached() { # PACKAGE-PATTERN: its file
    sed -n "s,^\(\./$1_.*\),\1,p" "$cache/LIST" 2>/dev/null | head -n 1
}

download() { # PACKAGE...
    command -v apt-get >/dev/null || fail "apt-get is missing: the guest is made of Debian packages"
    local fetch=$tmp/fetch
    mkdir "$fetch"
    # As root, apt would first complain that its own user cannot write here.
    (cd "$fetch" && apt-get -qq -o APT::Sandbox::User=root download "$@") ||
        fail "cannot download the packages: check the network and run apt-get update"
    (cd "$fetch" && ls ./*.deb) >"$tmp/LIST"
    [ ! -f "$cache/LIST" ] || cat "$cache/LIST" >>"$tmp/LIST"
    cp "$fetch"/*.deb "$cache/"
    cp "$tmp/LIST" "$cache/LIST.$$" && mv "$cache/LIST.$$" "$cache/LIST"
}

kernel='linux-image-[0-9][^_]*'
missing=
for package in $packages; do
    [ -n "$(cached "$package")" ] || missing="$missing $package"
done
if [ -z "$(cached "$kernel")" ]; then
    found=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$found" ] || fail "no package linux-image-cloud-amd64: run apt-get update"
    missing="$missing $found"
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || download $missing
mkdir "$tmp/debs"
for package in $packages "$kernel"; do
    deb=$(cached "$package")
    dpkg-deb -x "$cache/$deb" "$tmp/debs" ||
        fail "cannot unpack $cache/$deb: remove $cache and run again"
done
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
mkdir -p "$root"/{bin,dev,etc,lib,lib64,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin,var/log}

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
copy_program() { # PATH
    cp -L "$tmp/debs/$1" "$root/$1"
    copy_needed "$root/$1"
}

add_links() { # APPLET...
    for applet in "$@"; do ln -s busybox "$root/bin/$applet"; done
}

add_static() { # SOURCE PROGRAM
    # shellcheck disable=SC2086
    $guest_cc -std=c11 -Os -Wall -Wextra -static -s -Wl,--build-id=none -o "$root/$2" "$src/$1"
}

# What both flavours have.
cp "$tmp/debs/bin/busybox" "$root/bin/busybox"
add_links sh ash cat date df dmesg echo free grep halt hostname ip kill ls mount nc poweroff \
    ps reboot sleep sync top umount uptime vi
ln -s ../bin/busybox "$root/sbin/init"
cp -L "$tmp/debs/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
"$guest/agent/build.sh" "$root/usr/sbin"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"

case $flavour in
redis)
    mkdir -p "$root/var/lib/redis"
    cp -R "$src/rootfs/." "$root/"
    copy_program usr/bin/redis-server
    add_static heartbeat.c usr/sbin/drafter-heartbeat
    ;;
os)
    mkdir -p "$root/oci-runtime-bundle" "$root/lib/modules" "$root/var/lib/chrony"
    cp -R "$src/os/." "$root/"
    add_links insmod mkdir sed true
    copy_program usr/bin/crun
    copy_program usr/sbin/chronyd
    printf '_chrony:x:100:100::/var/lib/chrony:/bin/false\n' >>"$root/etc/passwd"
    objcopy --strip-debug "$tmp/debs/lib/modules/$kv/kernel/drivers/ptp/ptp_kvm.ko" "$root/lib/modules/ptp_kvm.ko"
    ;;
esac
chmod 755 "$root"/etc/rc "$root"/etc/drafter/*
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
