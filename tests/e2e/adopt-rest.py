#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of a node whose VM runs, three times: the guest pauses at most, and its next node goes on with it."""

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    beats = lab.heartbeats("a")
    node = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    vmm = lab.vmm("a")
    for round in range(3):
        node.kill()
        check(lab.vmm("a") == vmm, "the VMM outlives its node")
        node = lab.restart(node)
        node.wait("adopted")
        beats.goes_on("a", 0.3)
    check(lab.vmm("a") == vmm, "it is still the same VMM")
    beats.verified("a")
    check(node.stop() == 0, "the VM is saved at the end")
    again = lab.restart(node)
    again.wait("resumed")
    beats.goes_on("a", 0.3)
    drafterlab.intact(beats.report())


drafterlab.main(test)
