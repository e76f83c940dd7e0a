#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of a node whose VM runs in Firecracker: the guest pauses at most, and its next node goes on with it and hands it over."""

import drafterlab
import firecrackerlab
from drafterlab import check


def test(lab):
    package = lab.package(firecrackerlab.BUSY, memory="32M")
    beats = lab.heartbeats("a", "b")
    node = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    vmm = lab.vmm("a")
    for _ in range(3):
        node.kill()
        check(lab.vmm("a") == vmm, "Firecracker outlives its node")
        node = lab.restart(node)
        node.wait("adopted")
        beats.goes_on("a", 0.3)
    check(lab.vmm("a") == vmm, "it is still the same Firecracker")
    target = lab.peer("b", connect=node)
    target.wait("arrived")
    check(node.exited() == 0, "the adopted VM was handed over")
    beats.verified("b")
    drafterlab.intact(beats.report())
    check(target.stop() == 0, "the VM is saved at the end")


firecrackerlab.main(test)
