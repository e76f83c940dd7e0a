#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# An OCI image of redis becomes a VM: `drafter image` makes its disk and the guest that runs it, the snapshotter a package,
# a peer runs that, and another takes it over while a client writes.
# IMAGE_DIR holds the guest with redis, whose files (Debian's) the image is made of, and Debian's packages.
abs_top_srcdir=${abs_top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
. "$abs_top_srcdir/tests/lib.sh"
. "$abs_top_srcdir/tests/e2e/redis.sh"
redis_devices="kernel initramfs disk oci state memory config"
export DRAFTER_GUEST_PATH=$abs_top_srcdir/guest

redis_need
lab_need skopeo umoci mke2fs debugfs
lab_begin
image=$(redis_image) || lab_skip "$image"

step() { "$@" >"$lab/step.log" 2>&1 || lab_fail "$*: $(tail -n 1 "$lab/step.log")"; }

# An image whose program runs as a user of the image's, who owns the data.
make_image() { # LAYOUT
    local bundle=$lab/bundle
    step umoci init --layout "$1"
    step umoci new --image "$1:latest"
    step umoci unpack --image "$1:latest" "$bundle"
    mkdir -p "$bundle"/rootfs/{etc,data,usr/bin} || lab_fail "cannot make directories"
    step debugfs -R "rdump /usr/bin/redis-server $bundle/rootfs/usr/bin" "$image/disk"
    step debugfs -R "rdump /lib /lib64 $bundle/rootfs" "$image/disk"
    echo 'redis:x:999:999::/data:/bin/false' >"$bundle/rootfs/etc/passwd"
    echo 'redis:x:999:' >"$bundle/rootfs/etc/group"
    step chown 999:999 "$bundle/rootfs/data"
    step umoci repack --image "$1:latest" "$bundle"
    step umoci config --image "$1:latest" --config.user redis --config.workingdir /data \
        --config.entrypoint /usr/bin/redis-server --config.cmd=--protected-mode --config.cmd=no \
        --config.cmd=--appendonly --config.cmd=yes --config.exposedports 6379/tcp
    rm -rf "$bundle"
}

# Another setting, and a hook for when the guest has been resumed.
edit_bundle() { # BUNDLE
    sed -i 's/^\( *\)"--appendonly",$/\1"--maxmemory", "64mb", &/' "$1/config.json"
    echo 'echo resumed >>/oci-runtime-bundle/rootfs/data/resumed; sync' >"$1/after-resume"
    chmod 755 "$1/after-resume"
}

ask() { # NODE COMMAND...
    local node=$1
    shift
    python3 - "${redis_port[$node]}" "$@" <<'PYTHON'
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as peer:
    peer.sendall((" ".join(sys.argv[2:]) + "\r\nQUIT\r\n").encode())
    print(b"".join(iter(lambda: peer.recv(65536), b"")).decode().replace("\r", ""))
PYTHON
}

expect() { # NODE PATTERN COMMAND...
    local node=$1 pattern=$2 answer
    shift 2
    answer=$(ask "$node" "$@") || lab_fail "redis at $node does not answer $*"
    grep -q "$pattern" <<<"$answer" || lab_fail "redis at $node answers $* with ${answer:0:200}"
}

echo "== image and guest"
make_image "$lab/redis"
# Only the first time something is fetched.
"$DRAFTER" image os "$lab/os" --cache "$image/cache" --size 64M >"$lab/step.log" 2>&1 || {
    ! grep -q 'cannot download' "$lab/step.log" || lab_skip "Debian's packages cannot be downloaded"
    lab_fail "$(tail -n 1 "$lab/step.log")"
}
step "$DRAFTER" image unpack "$lab/redis:latest" "$lab/edited" --ready-port 6379
edit_bundle "$lab/edited"
step "$DRAFTER" image pack "$lab/edited" "$lab/os/oci" --free 64M

echo "== snapshot"
redis_init
redis_snapshot "$lab/os"
redis_install a

echo "== run, and move"
redis_start a
expect a '^+OK$' SET greeting hello
expect a '^67108864$' CONFIG GET maxmemory
# Process 1, in a namespace of its own.
expect a '^process_id:1$' INFO server
redis_writer
sleep 0.5
redis_move a b
expect b '^hello$' GET greeting
expect b '^process_id:1$' INFO server
# Its file is in a directory that belongs to its user, as the image says.
expect b '^aof_last_write_status:ok$' INFO persistence
sleep 0.5
redis_writer_stop || lab_fail "writes were lost: $(cat "$lab/writer.json" "$lab/writer.log")"
echo "writer: $(cat "$lab/writer.json")"
node_stop b

echo "== what they wrote, from the disk"
step "$DRAFTER" image unpack "$redis_files/b/oci" "$lab/back"
grep -q '^999 999 - - data/appendonlydir$' "$lab/back/owners" || lab_fail "$(cat "$lab/back/owners")"
grep -q hello "$lab"/back/rootfs/data/appendonlydir/*.aof || lab_fail "redis' file lacks what was written"
[ "$(grep -c resumed "$lab/back/rootfs/data/resumed")" -ge 2 ] || lab_fail "the bundle's hook did not run at both nodes"

lab_leaks
echo "nothing is left"
