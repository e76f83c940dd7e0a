#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Shows what drafter does, on one machine, from a bare Debian 12 on: a Linux VM with Redis runs at node A,
# moves to node B and back, again and again, while a client keeps writing to it and counts.
cd "$(dirname "$0")" || exit 1
source=$PWD out=$PWD/out moves=4 keep=no

usage() {
    cat <<USAGE
Usage: ./demo.sh [--moves N] [--keep]

  --moves N   how often the VM moves (4)
  --keep      leave the VM's files, configurations and logs in out/demo
  -h, --help  this text

Needs root (mounts, and packages that are missing). The figures are in out/demo/result.json; the exit
status is 0 when not a single acknowledged write was lost. Ctrl-C ends it and cleans up.
USAGE
}

while [ $# -gt 0 ]; do
    case $1 in
    --moves) moves=${2:?--moves needs a number}; shift ;;
    --moves=*) moves=${1#*=} ;;
    --keep) keep=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
case $moves in '' | *[!0-9]* | 0*) echo "demo.sh: --moves needs a number from 1 on" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || { echo "demo.sh: please run it as root" >&2; exit 2; }

started=$EPOCHSECONDS step=0
step() { step=$((step + 1)); printf '\n[%d] %s\n' $step "$*"; }
say() { printf '    %s\n' "$*"; }
die() { printf '\ndemo.sh: %s\n' "$*" >&2; exit 1; }
# run LOG COMMAND...: quietly; its last words when it fails
run() {
    local log=$1; shift
    "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; die "failed: $*"; }
}

install_packages() {
    local missing package
    missing=$(sed 's/#.*//; s/[[:space:]].*//' "$source/tests/packages.txt" | while read -r package; do
        [ -z "$package" ] || dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
            grep -q 'ok installed' || echo "$package"
    done)
    [ -n "$missing" ] || { say "all of them are here"; return; }
    say "installing:" $missing
    run "$out/apt.log" apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive run "$out/apt.log" apt-get install -y -q --no-install-recommends $missing
}

build() {
    if [ ! -x configure ] || [ configure.ac -nt configure ]; then
        run "$out/autogen.log" ./autogen.sh
    fi
    build=$out/build
    # A tree that was configured in place cannot be built elsewhere as well.
    [ ! -f config.status ] || build=$source
    mkdir -p "$build"
    [ -f "$build/Makefile" ] || (cd "$build" && run "$out/configure.log" "$source/configure")
    run "$out/make.log" make -C "$build" -j "$(nproc)"
    "$build/core/drafter" --version 2>/dev/null | head -n 1 | sed 's/^/    /'
}

build_image() {
    if [ -f "$out/image/boot-args" ] &&
        [ -z "$(find guest/image guest/agent guest/liveness guest/common -newer "$out/image/boot-args" -type f)" ]; then
        say "still there from the last time"
        return
    fi
    # The names of packages come with the lists of apt, which a bare machine lacks.
    [ -f "$out/image/cache/LIST" ] || apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 ||
        run "$out/apt.log" apt-get update -q
    run "$out/image.log" guest/image/build-image.sh "$out/image"
}

# What the two nodes have to say of a move, and what the guest and the client saw of it.
tell_move() { # NUMBER FROM TO MILLISECONDS
    local received total blackout
    received=$(node_field "$3" arriving received) total=$(node_field "$3" arriving total)
    until_true 10 redis_switched "$1" || die "the guest does not beat at node ${3^^}"
    blackout=$(grep '^switch ' "$lab/beats.events" | sed -n "$1s/.* //p")
    say "done in $4 ms: $((received >> 20)) MiB sent for a VM of $((total >> 20)) MiB"
    say "the VM was paused for $(paused_ms "$2") ms at ${2^^} until it ran at ${3^^};"
    say "without a heartbeat of the guest: ${blackout%.*} ms"
    say "$(sed -n 's/.*"message":"\([0-9]* of [0-9]* pages compared\).*/\1/p' "${node_log[$3]}" | tail -n 1)" \
        "with what A and B hold: identical"
    say "writes acknowledged so far: $(grep -c ^a "$lab/journal")"
}

paused_ms() { sed -n 's/.*runs at .*, \([0-9.]*\) ms after it was paused here.*/\1/p' "${node_log[$1]}" | tail -n 1; }

write_result() {
    python3 - "$moves" "$lab/beats.json" "$lab/writer.json" >"$out/demo/result.json.part" <<'PYTHON'
import json, sys
beats, writer = json.load(open(sys.argv[2])), json.load(open(sys.argv[3]))
gaps = sorted(s["blackout_ms"] for s in beats["switches"])
middle = len(gaps) // 2
median = gaps[middle] if len(gaps) % 2 else (gaps[middle - 1] + gaps[middle]) / 2
print(json.dumps({"migrations": int(sys.argv[1]), "blackout_ms_p50": round(median, 1), "blackout_ms_max": round(gaps[-1], 1),
                  "acked_writes": writer["acked"], "lost_writes": writer["lost"],
                  "transport": "tcp", "vmm": "qemu", "accelerator": "tcg"}))
PYTHON
    mv "$out/demo/result.json.part" "$out/demo/result.json"
}

# Runs at any end, after everything was stopped.
lab_at_end() {
    if [ "$keep" = yes ]; then
        cp -r "$lab"/*.ini "$lab"/*.log "$lab"/*.json "$lab"/journal "$lab"/beats.events "$out/demo/" 2>/dev/null
        echo "Files and logs are in $out/demo."
    else
        rm -rf "$out/demo/package" "$out/demo/a" "$out/demo/b"
    fi
    case $1 in 129 | 130 | 143) echo "Stopped; everything is cleaned up." >&2 ;; esac
}

mkdir -p "$out/demo" || exit 1
exec 9>"$out/demo.lock"
flock -n 9 || die "another demo.sh is at work here"
rm -rf "${out:?}/demo"/*

step "Packages of Debian"
install_packages
step "Building drafter (out/build)"
build
step "Building the guest: Debian's kernel, Redis, drafter's agent (out/image)"
build_image

export abs_top_srcdir=$source abs_top_builddir=$build DRAFTER=$build/core/drafter
export DRAFTER_PLUGIN_PATH=$build/plugins/loadable
. tests/lib.sh
. tests/e2e/redis.sh
[ -c /dev/fuse ] || modprobe fuse 2>/dev/null
[ -c /dev/fuse ] || die "there is no /dev/fuse here"
lab_begin
redis_files=$out/demo
redis_init

step "Snapshot: booting the VM with 256 MiB, once, and saving it as a package"
redis_snapshot "$out/image"
say "booted, saved and ended in $(node_field snapshotter snapshot ms) ms"

step "Node A starts the VM from its copy of the package"
redis_install a
redis_beats
redis_start a
say "the guest runs $(node_field a resumed ms) ms after the start, as if it had never been away"

step "A client starts to write to Redis in the VM, and notes what was acknowledged"
redis_writer
sleep 3
say "writes acknowledged so far: $(grep -c ^a "$lab/journal")"

from=a to=b
for number in $(seq "$moves"); do
    step "Move $number of $moves: node ${to^^} takes the VM over from node ${from^^} while it runs"
    before=${EPOCHREALTIME/./}
    redis_move $from $to
    tell_move "$number" $from $to $(((${EPOCHREALTIME/./} - before) / 1000))
    read -r from to <<<"$to $from"
    sleep 1
done

step "The client stops and reads back everything that was acknowledged"
redis_writer_stop
writer_status=$?
sed 's/^/    /' "$lab/writer.log"
[ $writer_status -le 1 ] || die "the client could not verify"
redis_beats_stop
say "$(cat "$lab/writer.json")"

step "Suspending the VM, ending node ${from^^}"
node_stop $from
say "suspended in $(node_field $from suspended ms) ms; node ${from^^} could start it again"
rm -f "$lab"/?.serial
lab_leaks
say "no process, mount or socket is left"

write_result
printf '\n%s\n' "$(cat "$out/demo/result.json")"
echo "($((EPOCHSECONDS - started)) s; the figures are in out/demo/result.json)"
exit $writer_status
