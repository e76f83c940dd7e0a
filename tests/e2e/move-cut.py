#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The link breaks for good before the hand-over: the guest stays, the destination leaves nothing.  One that lies is replaced."""

import os

import drafterlab
from drafterlab import check

FOR_GOOD = ["gone", "stall after-bytes=8000000 dir=down", "half-open after-bytes=8000000 dir=down", "stall after-bytes=60 dir=up"]
ONCE = ["flip 8000000 3 dir=down", "truncate after-bytes=8000000 dir=down", "duplicate 64 after-bytes=8000000 dir=down",
        "cut after-bytes=200 dir=down"]


def kept(node):
    return len([e for e in node.events if e.get("event") == "kept"])


def test_for_good(lab, beats, a, number, fault):
    options = [] if fault == "gone" else ["--fault", fault]
    address, control = lab.link(a, 0, "400m", *options)
    before = kept(a)
    b = lab.peer(f"b{number}", connect=address)
    if fault == "gone":
        lab.eventually(lambda: control("stats")["down"]["bytes_out"] > 8000000, "data flows")
        control("quit")
    check(b.exited() > 0, f"{fault}: the destination ends with {b.child.returncode}")
    errors = b.messages("error")
    check(len(errors) == 1, f"and says: {errors}")
    check(not os.listdir(b.directory), f"nothing is left there {os.listdir(b.directory) or ''}")
    if "bytes=60" not in fault:  # there the source has heard of nobody
        lab.eventually(lambda: kept(a) > before, "the source keeps the VM, and says so")
    if fault != "gone":
        control("quit")
    a.settled()
    beats.goes_on("a", 0.1)


def test_once(lab, beats, source, name, fault):
    address, control = lab.link(source, 0, "400m", "--fault", fault)
    node = lab.peer(name, connect=address)
    node.wait("arrived")
    check(source.exited() == 0, f"{fault}: it moved over a new link")
    check(node.messages("warning"), f"and says why: {node.messages('warning')[:1]}")
    control("quit")
    beats.goes_on(name, 0.1)
    return node


def test(lab):
    package = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    names = [f"z{number}" for number in range(len(ONCE))]
    beats = lab.heartbeats("a", *names)
    node = a = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    a.wait("listening")  # the guest may beat before, and the listener's descriptors are to be among them
    files = a.open_files()
    for number, fault in enumerate(FOR_GOOD):
        test_for_good(lab, beats, a, number, fault)
    lab.eventually(lambda: a.open_files() <= files, f"the source has as many open files as before: {files}", 10)
    for name, fault in zip(names, ONCE):
        node = test_once(lab, beats, node, name, fault)
    report = beats.report()
    check(len(report["switches"]) == len(ONCE), "it moved as often as it was asked to")
    drafterlab.intact(report)


drafterlab.main(test)
