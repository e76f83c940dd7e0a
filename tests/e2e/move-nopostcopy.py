#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""With disable-postcopy-migration the guest runs at the destination only when all of its memory is there."""

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package(drafterlab.BUSY)
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package, max_passes=1)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    address, _ = lab.link(a, 20, "400m")
    b = lab.peer("b", connect=address, disable_postcopy_migration=True)
    b.wait("arrived")
    early = [e for e in b.events if e.get("event") == "arriving" and e["missing"] and e["at"] > b.wait("resumed")["at"]]
    check(not early, "no page was missing once it ran")
    check(a.exited() == 0, "the source ended with 0")
    beats.goes_on("b", 0.5)
    report = beats.report()
    print(f"blackout {report['switches'][0]['blackout_ms']:.1f} ms")
    drafterlab.intact(report)


drafterlab.main(test)
