#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The link breaks before the hand-over, early, late, stalled, and in the pause: it is found again, and only the rest is sent."""

import drafterlab
from drafterlab import check

MIB = 1 << 20
CONTENT = 40 * MIB  # what of the guest's memory is not zero, about
SLACK = 2 * MIB  # hashes, announcements, what the guest writes meanwhile


def sent(control):
    return control("stats")["down"]["bytes_out"]


def break_at(lab, control, fault, after):
    """Breaks the link once so much was sent; returns what was."""
    lab.eventually(lambda: sent(control) >= after, f"{after >> 20} MiB were sent before the {fault}")
    if fault == "stall":  # of one bulk stream: the others live
        fault += f" conn={control('stats')['accepted']}"
    check(control(fault) == "ok", "the link is broken")
    return sent(control)


def lost(node):
    """What the node said when it noticed."""
    return [message for message in node.messages("warning") if "the link was lost while" in message]


def missing(node, nth):
    """What the destination said that it misses, when the link was found again for the nth time."""
    found = [event for event in list(node.events) if event.get("event") == "relinked"]
    return found[nth]["missing"] if len(found) > nth else None


def test_copying(lab, beats, a, b, control):
    total = sent(control)
    for number, (fault, after) in enumerate([("cut", 6 * MIB), ("cut", 14 * MIB), ("stall", 20 * MIB)]):
        total = break_at(lab, control, fault, after)
        if fault == "stall":
            for node in (a, b):
                lab.eventually(lambda node=node: len(lost(node)) == number + 1, f"{node.name} notices", 5)
            total = sent(control)
            control("resume")
        lab.eventually(lambda n=number: missing(b, n) is not None, "the destination finds the source again")
        check(not b.find("resumed"), "before the hand-over")
        beats.goes_on("a", 0.1)
    b.wait("arrived")
    rest, again = missing(b, 2), sent(control) - total
    print(f"{total >> 10} KiB were sent until the last fault, {again >> 10} KiB after it; missing were {rest >> 10} KiB")
    check(again < max(CONTENT - 18 * MIB, 0) + SLACK, "after the last fault only the rest was sent")
    check(missing(b, 0) > missing(b, 1) > missing(b, 2), f"each link brought some of it")


def test_pause(lab, beats, package):
    """In the pause, ahead of the record, one of two ways is closed: the guest goes on at the source, and moves by the other."""
    c = lab.peer("c", package, failpoint="S9:pause=300", max_passes=2)
    beats.wait("beat", "c", drafterlab.PATIENCE)
    address, control = lab.link(c, 2, "400m")
    other, _ = lab.link(c, 2, "400m")
    d = lab.peer("d", connect=f"{address} {other}")
    c.wait("failpoint")
    check(control("refuse") == "ok" and control("cut") == "ok", "a way is closed in the pause")
    d.wait("arrived")
    check(c.find("relinked"), "the source has waited for its peer")
    beats.goes_on("d", 0.1)


def test(lab):
    package = lab.package("fill=40 dirty=2 rate=500 check=1", memory="64M")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package, relink_timeout="10s")
    beats.wait("beat", "a", drafterlab.PATIENCE)
    address, control = lab.link(a, 2, "60m")
    b = lab.peer("b", connect=address, relink_timeout="10s")
    test_copying(lab, beats, a, b, control)
    check(a.exited() == 0, "the source ended with 0")
    check(len(lost(a)) == len(lost(b)) == 3, f"each side has said each time what it does next: {lost(a)[0]}")
    beats.verified("b")
    report = beats.report()
    check(len(report["switches"]) == 1, "the guest went over once")
    drafterlab.intact(report)
    b.stop()
    pause = lab.heartbeats("c", "d")
    test_pause(lab, pause, package)
    drafterlab.intact(pause.report())


drafterlab.main(test)
