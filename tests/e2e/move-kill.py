#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the destination before the hand-over: the guest stays; the node's next start cleans up and takes it over."""

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
    lab.eventually(lambda: not [p for p in lab.processes() if "/run/b/" in p], "the killed daemon's VMM ended")
    again = lab.peer("b", connect=a, overwrite=True)
    again.wait("arrived")
    check(a.exited() == 0, "the second attempt took it over")
    beats.goes_on("b", 0.2)
    drafterlab.intact(beats.report())


drafterlab.main(test)
