#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM that dirties memory heavily moves a thousand times in one run; nothing of it is lost and nothing piles up.

MOVES=N: how often (1000). SECONDS=S: at most so long, then it ends as it does after the last move (40 moves at least). A
line of its output is a JSON object of figures.
"""

import json
import os
import statistics
import time

import drafterlab
from drafterlab import check

GUEST = "fill=96 dirty=48 rate=200000 check=1"
SAMPLE = 10  # moves at the beginning and the end that are compared


def resident_kib(node):
    with open(f"/proc/{node.child.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def files(lab):
    """What is below the lab's directory but for the files of the test itself."""
    found = [os.path.join(where, name) for where, _, names in os.walk(lab.dir) for name in names]
    return len([path for path in found if "beats-" not in path and not path.endswith(".ini")])


def measure(lab, node):
    return {"fds": node.open_files(), "rss_kib": resident_kib(node), "files": files(lab), "mounts": len(lab.mounts()),
            "processes": len(lab.processes())}


def compare(samples):
    first, last = samples[:SAMPLE], samples[-SAMPLE:]
    for key in samples[0]:
        before, after = (statistics.median(sample[key] for sample in part) for part in (first, last))
        slack = max(before * 0.1, 4096) if key == "rss_kib" else 2
        check(after <= before + slack, f"{key}: {before} at first, {after} at last")


def test(lab):
    moves, deadline = int(os.environ.get("MOVES", "1000")), time.monotonic() + float(os.environ.get("SECONDS", "86400"))
    beats = lab.heartbeats("a", "b")
    node = lab.peer("a", lab.package(GUEST))
    beats.wait("beat", "a", drafterlab.PATIENCE)
    samples, began, done = [], time.monotonic(), 0
    while done < moves and time.monotonic() < deadline:
        target = lab.peer("ba"[done % 2], connect=node)
        target.wait("arrived")
        target.wait("listening")
        if node.exited():
            raise drafterlab.Failure(f"move {done + 1}: {node.name} ended badly: {node.last_line()}")
        lab.nodes.remove(node)
        node, done = target, done + 1
        if node.name == "b":
            samples.append(measure(lab, node))
    check(len(samples) >= 2 * SAMPLE, f"{done} moves in {time.monotonic() - began:.0f} s")
    compare(samples)
    beats.verified(node.name)
    report = beats.report()
    check(len(report["switches"]) == done, f"the guest went over {done} times")
    check(report["chk_ok"] > 0, "the guest verified its memory")
    drafterlab.intact(report)
    check(node.stop() == 0, "the last node saves the VM and ends with 0")
    blackouts = sorted(switch["blackout_ms"] for switch in report["switches"])
    print(json.dumps({"moves": done, "seconds": round(time.monotonic() - began), "first": samples[0], "last": samples[-1],
                      "blackout_ms_p50": round(statistics.median(blackouts), 1), "blackout_ms_max": round(blackouts[-1], 1)}))


drafterlab.main(test)
