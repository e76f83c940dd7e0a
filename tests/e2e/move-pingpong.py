#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM moves back and forth between two nodes while it writes and verifies its memory. MOVES=N: how often (6)."""

import os

import drafterlab
from drafterlab import check


def expect_small_growth(before, after, text):
    check(after <= before + 2, f"{text}: {before} at first, {after} at last")


def test(lab):
    moves = int(os.environ.get("MOVES", "6"))
    package = lab.package(drafterlab.BUSY)
    beats = lab.heartbeats("a", "b")
    node = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    files = {}
    for move in range(1, moves + 1):
        name = "ab"[move % 2]
        target = lab.peer(name, connect=node)
        target.wait("arrived")
        target.wait("listening")
        files.setdefault(name, []).append(target.open_files())
        check(node.exited() == 0, f"move {move}: {node.name} handed over and ended with 0")
        lab.nodes.remove(node)
        node = target
    for name, counts in files.items():
        expect_small_growth(counts[0], counts[-1], f"open files of {name}")
    beats.verified(node.name)
    report = beats.report()
    check(len(report["switches"]) == moves, f"the guest went over {moves} times")
    drafterlab.continuous(report)
    check(report["chk_ok"] > 0, "the guest verified its memory")
    drafterlab.intact(report)
    print("blackouts in ms:", [round(switch["blackout_ms"], 1) for switch in report["switches"]])
    check(node.stop() == 0, "the last node saves the VM and ends with 0")


drafterlab.main(test)
