#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The VM runs at the destination while most of its changed memory is still at the source, 75 ms and a slow link away."""

import drafterlab
from drafterlab import check

MIB = 1 << 20


def test(lab):
    # The guest rewrites nearly all its memory all the time, so the last pass has much to send.
    package = lab.package("fill=64 dirty=60 rate=0 write=full check=1")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package, max_passes=1)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    address, control = lab.link(a, 75, "100m")
    b = lab.peer("b", connect=address)
    resumed = b.wait("resumed")
    beats.wait("beat", "b", drafterlab.PATIENCE)
    check(not b.find("arrived"), "the guest beats at the destination before everything arrived")
    first = b.wait("arriving", state="completing")
    check(first["missing"] > 32 * MIB, f"{first['missing'] / MIB:.0f} MiB of the 64 that it uses were still at the source")
    arrived = b.wait("arrived")
    print(f"the rest took {arrived['at'] - resumed['at']:.2f} s, {control('stats')['down']['bytes_out'] / MIB:.0f} MiB went over the link")
    check(a.exited() == 0, "the source ended with 0 after the last block")
    beats.verified("b")
    report = beats.report()
    switch = report["switches"][0]
    print(f"blackout {switch['blackout_ms']:.1f} ms of which 37.5 are the way; longest gap after it {switch['max_gap_after_ms']:.0f} ms")
    drafterlab.intact(report)
    check(report["chk_ok"] > 0, "it verified its memory")


drafterlab.main(test)
