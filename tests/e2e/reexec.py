#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The binary is replaced ten times under a guest that writes; the guest sees a short pause, and nothing else."""

import subprocess
import time

import drafterlab
from drafterlab import check

ROUNDS = 10
PAUSE_MAX_MS = 1000  # of a busy machine; what was seen is printed


def test(lab):
    package = lab.package("fill=64 dirty=16 rate=40000 check=1")
    beats = lab.heartbeats("a")
    node = lab.peer("a", package, devices={"memory": {"overlay": lab.path("m.overlay"), "state": lab.path("m.state")}})
    beats.wait("beat", "a", drafterlab.PATIENCE)
    process, vmm = node.child.pid, lab.vmm("a")
    for _ in range(ROUNDS):
        subprocess.run([drafterlab.DRAFTER, "reexec", "--config", node.config], check=True, timeout=60)
        time.sleep(0.2)
    adopted = [event["ms"] for event in node.events if event.get("event") == "adopted"]
    check(len(adopted) == ROUNDS, f"the VM was adopted {ROUNDS} times, in {adopted} ms")
    check(node.child.pid == process and node.child.poll() is None, "it is still the same process")
    check(lab.vmm("a") == vmm, "it is still the same VMM")
    beats.verified("a")
    check(node.stop() == 0, "the VM is saved at the end")
    lab.restart(node).wait("resumed")
    beats.goes_on("a", 0.3)
    report = beats.report()
    drafterlab.intact(report)
    gaps = lab.gaps(beats.log)
    check(gaps and max(gaps) < PAUSE_MAX_MS, f"the guest's longest pauses: {[round(g) for g in gaps[:12]]} ms")


drafterlab.main(test)
