#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The link breaks, stalls, swallows or lies before the hand-over: the guest stays, the destination leaves nothing."""

import os

import drafterlab
from drafterlab import check

FAULTS = ["cut after-bytes=8000000 dir=down", "stall after-bytes=8000000 dir=down", "half-open after-bytes=8000000 dir=down",
          "flip 8000000 3 dir=down", "truncate after-bytes=8000000 dir=down", "duplicate 64 after-bytes=8000000 dir=down", "cut after-bytes=200 dir=down",
          "stall after-bytes=60 dir=up"]


def test_fault(lab, beats, a, number, fault):
    address, control = lab.link(a, 0, "400m", "--fault", fault)
    kept = len([e for e in a.events if e.get("event") == "kept"])
    b = lab.peer(f"b{number}", connect=address)
    if fault.startswith("half-open"):  # its silence is that of the stall: no need to wait for all of it twice
        lab.eventually(lambda: len([e for e in a.events if e.get("event") == "kept"]) > kept, "the source noticed")
        control("quit")
    check(b.exited() > 0, f"{fault}: the destination ends with {b.child.returncode}")
    errors = b.messages("error")
    check(len(errors) == 1, f"and says: {errors}")
    check(not os.listdir(b.directory), f"nothing is left there {os.listdir(b.directory) or ''}")
    if not fault.startswith("half-open"):
        control("quit")
    a.settled()
    beats.goes_on("a", 0.1)


def test(lab):
    package = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    beats = lab.heartbeats("a", "z")
    a = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    files = a.open_files()
    for number, fault in enumerate(FAULTS):
        test_fault(lab, beats, a, number, fault)
    lab.eventually(lambda: a.open_files() <= files, f"the source has as many open files as before: {files}", 10)
    z = lab.peer("z", connect=a)
    z.wait("arrived")
    beats.goes_on("z")
    report = beats.report()
    check(len(report["switches"]) == 1, "over a good link it moves once")
    drafterlab.continuous(report)
    drafterlab.intact(report)


drafterlab.main(test)
