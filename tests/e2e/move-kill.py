#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the destination before the hand-over: the guest stays; the node's next starts clean up and take it over."""

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    address, _ = lab.link(a, 0, "100m")
    b = lab.peer("b", connect=address)
    a.wait("leaving", state="copying")
    b.kill()
    a.wait("kept")
    beats.goes_on("a", 0.2)
    check(not beats.count("b"), "it never ran at the destination")
    # If its VMM was ready, it may have heard COMMIT: the next process asks, hears no, and clears all away.
    asking = lab.peer("b", connect=address)
    lab.eventually(lambda: asking.child.poll() is not None or asking.find("arrived"), "the next start has an answer")
    if not asking.find("arrived"):
        check(asking.exited() == 6, "the next start hears that the VM stayed")
        check("start again" in asking.last_line(), "and says so")
        check(not [p for p in lab.processes() if "/run/b/" in p], "the killed daemon's VMM is gone")
        lab.peer("b", connect=a, overwrite=True).wait("arrived")
    check(a.exited() == 0, "the second attempt took it over")
    beats.goes_on("b", 0.2)
    drafterlab.intact(beats.report())


drafterlab.main(test)
