# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
# For shell tests that run nodes: . "$abs_top_srcdir/tests/lib.sh"
#
#   lab_begin                     a directory $lab of the test's own; gone at the end, whatever way it ends
#   node_start NAME CONFIG        starts drafter; its log is $lab/NAME.log, its process id ${node_pid[NAME]}
#   node_event NAME EVENT [S]     waits until the log has the event; fails when the node ends before
#   node_await NAME [S]           waits for the node's own end and its status 0
#   node_stop NAME                SIGTERM, then the same
#   lab_spawn COMMAND...          any other process, stopped at the end; its id is $spawned
#   lab_leaks                     fails when a process, mount, socket or temporary file of the test is left
#
# Every process of a test has DRAFTER_LAB in its environment, whoever started it: that is how those are
# found that outlive their parent.  lab_keep=yes leaves the directory.  A function lab_at_end STATUS, if
# there is one, is called when nothing runs any more and the directory is still there.

set -u

declare -A node_pid=()
declare -A node_log=()
lab='' lab_keep=${lab_keep:-no} lab_ended=no spawned='' lab_children=()

lab_skip() { echo "SKIP: $*"; exit 77; }
lab_fail() { echo "FAIL: $*" >&2; exit 1; }
lab_need() { for tool in "$@"; do command -v "$tool" >/dev/null || lab_skip "$tool is not installed"; done; }

lab_begin() {
    lab=$(mktemp -d "${TMPDIR:-/tmp}/drafter.XXXXXX") || exit 1
    # Sockets have short names only.
    [ ${#lab} -lt 70 ] || lab_fail "$lab: too long for the sockets in it; set TMPDIR"
    mkdir -p "$lab/tmp"
    export TMPDIR=$lab/tmp DRAFTER_LAB=$lab
    trap lab_end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

lab_alive() { kill -0 "$1" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$1/status"; }

# until_true SECONDS COMMAND...: polls
until_true() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000)); shift
    until "$@"; do
        [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
        sleep 0.03
    done
}

lab_dead() { ! lab_alive "$1"; }

# Ids of this lab's processes but this shell.
lab_processes() {
    local environment pid
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/} pid=${pid%/environ}
        [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
        grep -qazxF "DRAFTER_LAB=$lab" "$environment" 2>/dev/null || continue
        # Commands of this very function come and go.
        case $(cat "/proc/$pid/comm" 2>/dev/null) in '' | grep | cat | sed | sleep | bash) continue ;; esac
        lab_alive "$pid" && echo "$pid"
    done
}

lab_mounts() { awk -v lab="$lab/" 'index($2, lab) == 1 { print $2 }' /proc/mounts; }

lab_end() {
    local status=$? pid mount
    [ "$lab_ended" = no ] || return
    lab_ended=yes
    trap '' INT TERM HUP
    # Waited for at once, or bash would tell that they were killed.
    for pid in "${lab_children[@]}"; do { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null; done
    for pid in "${node_pid[@]}"; do kill -TERM "$pid" 2>/dev/null; done
    for pid in "${node_pid[@]}"; do
        until_true 15 lab_dead "$pid" || kill -KILL "$pid" 2>/dev/null
    done
    for pid in $(lab_processes); do kill -KILL "$pid" 2>/dev/null; done
    wait 2>/dev/null
    lab_mounts | tac | while read -r mount; do umount -l "$mount" 2>/dev/null; done
    ! declare -F lab_at_end >/dev/null || lab_at_end "$status"
    case $status in
    0 | 77 | 129 | 130 | 143) ;;
    *)
        for log in "$lab"/*.log; do
            [ -e "$log" ] || continue
            echo "== $(basename "$log")"
            tail -n 12 "$log" | cut -c 1-400
        done >&2
        ;;
    esac
    [ "$lab_keep" = yes ] || rm -rf "$lab"
    exit $status
}

lab_spawn() {
    "$@" &
    spawned=$!
    lab_children+=("$spawned")
}

node_start() { # NAME CONFIG
    local number=1
    while [ -e "$lab/$1.$number.log" ]; do number=$((number + 1)); done
    node_log[$1]=$lab/$1.$number.log
    "${DRAFTER:?}" --log-format=json --config "$2" 2>"${node_log[$1]}" </dev/null &
    node_pid[$1]=$!
}

node_has_event() { grep -qs "\"event\":\"$2\"" "${node_log[$1]}"; }

node_has_event_or_ended() { node_has_event "$1" "$2" || lab_dead "${node_pid[$1]}"; }

# What a node said last that matters.
node_last_words() {
    sed -n 's/.*"level":"\(error\|warning\)".*"message":"\(.*\)"}$/\2/p' "${node_log[$1]}" | tail -n 1
}

node_event() { # NAME EVENT [SECONDS]
    until_true "${3:-60}" node_has_event_or_ended "$1" "$2" ||
        lab_fail "node $1: no event \"$2\" within ${3:-60} s"
    node_has_event "$1" "$2" || lab_fail "node $1 ended before \"$2\": $(node_last_words "$1")"
}

# node_field NAME EVENT FIELD: of the last such event
node_field() {
    grep "\"event\":\"$2\"" "${node_log[$1]}" | tail -n 1 | sed -n "s/.*\"$3\":\"\{0,1\}\([^,\"}]*\).*/\1/p"
}

node_await() { # NAME [SECONDS]
    local status
    until_true "${2:-60}" lab_dead "${node_pid[$1]}" || lab_fail "node $1 does not end"
    wait "${node_pid[$1]}"
    status=$?
    unset "node_pid[$1]"
    [ $status -eq 0 ] || lab_fail "node $1 ended with status $status: $(node_last_words "$1")"
}

node_stop() { # NAME
    kill -TERM "${node_pid[$1]}"
    node_await "$1"
}

node_descriptors() { ls "/proc/${node_pid[$1]}/fd" | wc -l; }

lab_leaks() {
    local left
    left=$(lab_processes)
    # shellcheck disable=SC2086
    [ -z "$left" ] || lab_fail "processes are left: $(ps -o pid=,args= -p ${left//$'\n'/,} | cut -c 1-120)"
    left=$(lab_mounts)
    [ -z "$left" ] || lab_fail "mounts are left: $left"
    left=$(find "$lab" \( -type s -o -type p \) -o -path "$lab/tmp/*" -o -name '*.part' | head -n 5)
    [ -z "$left" ] || lab_fail "files are left: $left"
    left=$(grep -aF "$lab/" /proc/net/unix | head -n 3)
    [ -z "$left" ] || lab_fail "sockets are left: $left"
}

# free_ports N: prints N TCP ports of the loopback that nobody has
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in sockets])
PYTHON
}
