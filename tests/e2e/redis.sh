# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
# A Linux guest with redis that moves between node a and node b: what the demonstration and the test share.
# After lib.sh: . "$abs_top_srcdir/tests/e2e/redis.sh"
#
#   redis_need                    skips the test where there is no root, no QEMU or no FUSE
#   redis_image                   prints where the guest image is, building it if need be; or why that failed
#   redis_init                    ports, and empty directories of the nodes
#   redis_snapshot IMAGE          boots the image and saves it as a package in $redis_files/package
#   redis_install NODE            copies the package to the node's own files
#   redis_start NODE              starts the VM from these
#   redis_move FROM TO            TO takes the VM over, FROM ends
#   redis_writer / redis_writer_stop, redis_beats / redis_beats_stop
#
# With redis_overlay=yes the package is the read-only base of both nodes, and each writes to overlays of its
# own.  redis_files is where the large files are, $lab if not said.

redis_devices="kernel initramfs disk state memory config"
redis_overlay=${redis_overlay:-no}
redis_rate=${redis_rate:-200}
redis_beat_us=4000
declare -A redis_port=() peer_port=()

redis_need() {
    [ "$(id -u)" = 0 ] || lab_skip "needs root"
    lab_need qemu-system-x86_64 python3
    [ -c /dev/fuse ] || lab_skip "there is no /dev/fuse"
}

# In IMAGE_DIR, or where make image puts it.
redis_image() {
    local image=${IMAGE_DIR:-${abs_top_builddir:?}/guest/image-out}
    if [ ! -f "$image/boot-args" ] &&
        ! "$abs_top_srcdir/guest/image/build-image.sh" "$image" >"$lab/image.log" 2>&1; then
        echo "the guest image cannot be built: $(tail -n 1 "$lab/image.log")"
        return 1
    fi
    echo "$image"
}

redis_init() {
    redis_files=${redis_files:-$lab}
    rm -rf "$redis_files/a" "$redis_files/b" "$lab/state" "$lab/run"
    read -r "redis_port[a]" "redis_port[b]" "peer_port[a]" "peer_port[b]" < <(free_ports 4)
    mkdir -p "$redis_files/package" "$redis_files/a" "$redis_files/b" || lab_fail "cannot make directories"
}

redis_snapshot() { # IMAGE-DIRECTORY
    local device
    {
        cat <<CONFIG
[drafter]
role = snapshotter
name = redis
run-directory = $lab/run/snapshotter
state-directory = $lab/state/snapshotter

[vmm:vm]
plugin = qemu
accelerator = tcg

[snapshotter]
vmm = vm
memory-size = 256M
boot-args = $(cat "$1/boot-args") heartbeat_us=$redis_beat_us
resume-timeout = 3m
hook-timeout = 1m
settle = 500ms
CONFIG
        for device in $redis_devices; do
            printf '\n[device:%s]\noutput = %s\n' "$device" "$redis_files/package/$device"
            [ ! -e "$1/$device" ] || echo "input = $1/$device"
        done
    } >"$lab/snapshotter.ini"
    node_start snapshotter "$lab/snapshotter.ini"
    node_await snapshotter 240
}

redis_install() { # NODE
    local device
    for device in $redis_devices; do
        cp --sparse=always "$redis_files/package/$device" "$redis_files/$1/$device" || lab_fail "cannot copy the package"
    done
}

redis_device() { # NODE DEVICE
    if [ "$redis_overlay" = yes ]; then
        cat <<CONFIG
base = $redis_files/package/$2
overlay = $redis_files/$1/$2.overlay
state = $redis_files/$1/$2.state
shared-base = yes
CONFIG
    else
        echo "base = $redis_files/$1/$2"
    fi
}

redis_config() { # NODE [PEER]
    local device
    cat <<CONFIG
[drafter]
role = peer
name = redis
run-directory = $lab/run/$1
state-directory = $lab/state/$1

[vmm:vm]
plugin = qemu
accelerator = tcg
forward = tcp:127.0.0.1:${redis_port[$1]}-:6379
serial = unix:$lab/$1.serial

[peer]
vmm = vm
listen = 127.0.0.1:${peer_port[$1]}
downtime-limit = 50ms
hook-timeout = 1m
${2:+connect = 127.0.0.1:${peer_port[$2]}}
CONFIG
    for device in $redis_devices; do
        printf '\n[device:%s]\n' "$device"
        redis_device "$1" "$device"
    done
}

redis_start() { # NODE
    redis_config "$1" >"$lab/$1.ini"
    node_start "$1" "$lab/$1.ini"
    node_event "$1" listening 120
}

redis_move() { # FROM TO
    redis_config "$2" "$1" >"$lab/$2.ini"
    node_start "$2" "$lab/$2.ini"
    node_event "$2" arrived 300
    node_event "$2" listening
    node_await "$1"
    rm -f "$lab/$1.serial"
}

redis_writer() {
    lab_spawn "$abs_top_srcdir/tests/tools/drafter-writer" --ports "${redis_port[a]},${redis_port[b]}" \
        --journal "$lab/journal" --rate "$redis_rate" --patience 60 >"$lab/writer.json" 2>"$lab/writer.log"
    redis_writer_pid=$spawned
}

# Ends the writer, which then verifies; its status says whether a write was lost.
redis_writer_stop() {
    kill -TERM "$redis_writer_pid"
    wait "$redis_writer_pid"
}

redis_verify() {
    "$abs_top_srcdir/tests/tools/drafter-writer" --verify --ports "${redis_port[a]},${redis_port[b]}" \
        --journal "$lab/journal" --patience 60
}

redis_beats() {
    lab_spawn "$abs_top_builddir/tests/tools/drafter-heartbeats" --source "a=connect:$lab/a.serial" \
        --source "b=connect:$lab/b.serial" --timeout 36000 --events 3 3>"$lab/beats.events" \
        >"$lab/beats.json" 2>"$lab/beats.log"
    redis_beats_pid=$spawned
}

redis_beats_stop() {
    kill -TERM "$redis_beats_pid"
    wait "$redis_beats_pid"
}

# The guest was seen at a new host so many times.
redis_switches() { grep -c '^switch ' "$lab/beats.events"; }
redis_switched() { [ "$(redis_switches)" -ge "$1" ]; }
