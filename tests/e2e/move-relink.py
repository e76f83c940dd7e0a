#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The link breaks twice after the hand-over, while memory is still at the source: it is found again and all of it arrives."""

import drafterlab
from drafterlab import check

MIB = 1 << 20


def test(lab):
    package = lab.package("fill=64 dirty=60 rate=0 write=full check=1")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package, max_passes=1)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    address, control = lab.link(a, 10, "100m")
    b = lab.peer("b", connect=address)
    b.wait("resumed")
    for time in ("first", "second"):
        sent = control("stats")["down"]["bytes_out"]
        lab.eventually(lambda: control("stats")["down"]["bytes_out"] > sent + 2 * MIB, f"data flows before the {time} cut")
        check(not b.find("arrived"), "and not all of it is here")
        check(control("cut") == "ok", "the link is cut")
    b.wait("arrived")
    check(a.exited() == 0, "the source ended with 0 after the last block")
    beats.verified("b")
    report = beats.report()
    check(len(report["switches"]) == 1, "the guest went over once")
    check(report["chk_ok"] > 0, "it verified its memory")
    drafterlab.intact(report)


drafterlab.main(test)
