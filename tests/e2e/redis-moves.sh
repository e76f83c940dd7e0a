#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A Linux guest with redis under write load moves between two nodes MOVES times (10), once with files of
# each node's own and then, a few times, with overlays over a common base.  No acknowledged write may be lost.
# IMAGE_DIR holds the guest; it is built there when it is missing.
abs_top_srcdir=${abs_top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
. "$abs_top_srcdir/tests/lib.sh"
. "$abs_top_srcdir/tests/e2e/redis.sh"
moves=${MOVES:-10}

redis_need
lab_begin
image=$(redis_image) || lab_skip "$image"

hashes() { (cd "$redis_files/package" && b2sum ./*); }

# One move, and what must be true of each.
checked_move() { # FROM TO NUMBER
    redis_move "$1" "$2"
    grep -q 'pages compared with the source.s, all identical' "${node_log[$2]}" ||
        lab_fail "move $3: RAM and disks were not compared"
    until_true 10 redis_switched "$3" || lab_fail "move $3: the guest does not beat at node $2"
    echo "move $3, $1 to $2: $(sed -n "$3s/switch . . //p" <(grep ^switch "$lab/beats.events")) ms without the guest"
}

# checked_moves N: from a; the node that has the VM afterwards is $here
checked_moves() {
    local number there=b descriptors
    here=a
    for number in $(seq "$1"); do
        checked_move $here $there "$number"
        descriptors=$(node_descriptors $there)
        [ "$number" -gt 1 ] || first_descriptors=$descriptors
        [ "$here" = a ] && here=b there=a || here=a there=b
    done
    [ "$descriptors" -le $((first_descriptors + 2)) ] ||
        lab_fail "$first_descriptors descriptors after the first move, $descriptors after the last"
}

check_writer() { # MOVES
    redis_writer_stop || lab_fail "writes were lost: $(cat "$lab/writer.json" "$lab/writer.log")"
    echo "writer: $(cat "$lab/writer.json")"
    python3 - "$1" "$lab/writer.json" <<'PYTHON' || exit 1
import json, sys
# An attempt to reconnect can span two moves.
moves, writer = int(sys.argv[1]), json.load(open(sys.argv[2]))
assert writer["reconnects"] * 2 >= moves, "the writer was not there when the guest moved"
assert writer["acked"] >= 50 * moves and writer["unknown"] <= writer["reconnects"], writer
PYTHON
}

check_beats() {
    redis_beats_stop
    python3 - "$lab/beats.json" <<'PYTHON' || exit 1
import json, sys
beats = json.load(open(sys.argv[1]))
for key in "repeated", "rewound", "split_beats", "tsc_back":
    assert beats[key] == 0, "heartbeats: %s = %s" % (key, beats[key])
gaps = sorted(s["blackout_ms"] for s in beats["switches"])
print("without the guest: median %.0f ms, longest %.0f ms" % (gaps[len(gaps) // 2], gaps[-1]))
PYTHON
}

hook_runs() { grep -c "^other . guest: $1" "$lab/beats.events"; }

# A suspended VM goes on where it was, and only where it was.
check_suspend() { # NODE OTHER
    node_stop "$1"
    node_has_event "$1" suspended || lab_fail "node $1 ended without suspending the VM"
    redis_config "$2" >"$lab/$2.ini"
    node_start "$2" "$lab/$2.ini"
    until_true 60 lab_dead "${node_pid[$2]}" || lab_fail "node $2 runs a VM that it has handed over"
    wait "${node_pid[$2]}" && lab_fail "node $2 started a VM that it has handed over"
    unset "node_pid[$2]"
    node_last_words "$2" | grep -qF 'redis.ledger' || lab_fail "node $2: $(node_last_words "$2")"
    redis_start "$1"
    redis_verify >"$lab/verify.json" 2>"$lab/verify.log" ||
        lab_fail "after the restart: $(cat "$lab/verify.json" "$lab/verify.log")"
    echo "suspended at $1, refused at $2, resumed at $1: $(cat "$lab/verify.json")"
}

check_hooks() { # MOVES; suspended once and resumed once beside these, and resumed at the start
    local before after
    before=$(hook_runs "before suspend") after=$(hook_runs "after resume")
    echo "hooks: $before before a suspend, $after after a resume"
    [ "$before" -ge $(($1 + 1)) ] && [ "$after" -ge $(($1 + 2)) ] || lab_fail "hooks did not run"
}

other_of() { [ "$1" = a ] && echo b || echo a; }

run() { # MOVES
    redis_beats
    redis_start a
    redis_writer
    sleep 2
    checked_moves "$1"
    sleep 1
    check_writer "$1"
    check_suspend "$here" "$(other_of "$here")"
    sleep 2 # the last hook of the guest has been heard
    check_beats
    check_hooks "$1"
    node_stop "$here"
    rm -f "$lab"/?.serial "$lab"/beats.*
}

echo "== snapshot"
redis_init
redis_snapshot "$image"
package=$(hashes)

echo "== files of their own, $moves moves"
redis_install a
run "$moves"

echo "== overlays over a common base, 3 moves"
redis_overlay=yes
redis_init
run 3
[ "$(hashes)" = "$package" ] || lab_fail "the base was written to"

lab_leaks
echo "nothing is left"
