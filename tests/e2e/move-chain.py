#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A -> B -> C -> D: all four nodes are there from the start of their turn, and nothing of the VM stays behind."""

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package(drafterlab.BUSY)
    beats = lab.heartbeats(*"abcd")
    node = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    for epoch, name in enumerate("bcd", 2):
        target = lab.peer(name, connect=node)
        check(target.wait("resumed")["epoch"] == epoch, f"{name} owns epoch {epoch}")
        target.wait("arrived")
        check(node.exited() == 0, f"{node.name} ended with 0")
        node = target
    beats.goes_on("d", 0.5)
    old = lab.peer("a", package, listen=None)
    check(old.exited() != 0, "a cannot start the VM that it handed over")
    check("are old" in old.last_line(), f"and says why: {old.last_line()}")
    report = beats.report()
    check([(s["from"], s["to"]) for s in report["switches"]] == [("a", "b"), ("b", "c"), ("c", "d")], "the guest took that way")
    drafterlab.intact(report)


drafterlab.main(test)
