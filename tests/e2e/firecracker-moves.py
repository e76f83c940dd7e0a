#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM in Firecracker moves between two nodes while it writes and verifies its memory. MOVES=N: how often (20); PRIVATE=yes: map-private."""

import os

import drafterlab
import firecrackerlab
from drafterlab import check


def test(lab):
    moves = int(os.environ.get("MOVES", "20"))
    package = lab.package(firecrackerlab.BUSY, memory="32M")
    beats = lab.heartbeats("a", "b")
    mode = {"map_private": os.environ.get("PRIVATE")}
    node = lab.peer("a", package, vmm=mode)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    for move in range(1, moves + 1):
        target = lab.peer("ab"[move % 2], connect=node, vmm=mode)
        target.wait("arrived")
        check(node.exited() == 0, f"move {move}: {node.name} handed over and ended with 0")
        lab.nodes.remove(node)
        node = target
    beats.verified(node.name)
    report = beats.report()
    check(len(report["switches"]) == moves, f"the guest went over {moves} times")
    drafterlab.continuous(report)
    check(report["chk_ok"] > 0, "the guest verified its memory")
    drafterlab.intact(report)
    print("blackouts in ms:", [round(switch["blackout_ms"], 1) for switch in report["switches"]])
    check(node.stop() == 0, "the last node saves the VM and ends with 0")
    node = lab.peer(node.name, node.directory, copy=False)
    beats = lab.heartbeats(node)
    beats.goes_on(node.name)


firecrackerlab.main(test)
