#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the holder, and of the VMM while no node is there: nothing is left, and the next start says what it found."""

import os
import signal

import drafterlab
from drafterlab import check


def holder(lab, name):
    found = [line for line in lab.processes() if "drafter-holder" in line and f"/run/{name}/" in line]
    check(len(found) == 1, f"{name} has one holder")
    return int(found[0].split(":")[0])


def test(lab):
    package = lab.package()
    a = lab.peer("a", package, vmm={"serial": "none"})
    a.wait("resumed")
    os.kill(holder(lab, "a"), signal.SIGKILL)
    check(a.exited() not in (0, -9), "a node whose holder was killed says that its VMM ended")
    lab.eventually(lambda: not [p for p in lab.processes() if "/run/a/" in p], "the VMM ended with its holder")

    b = lab.peer("b", package, vmm={"serial": "none"})
    b.wait("resumed")
    vmm = lab.vmm("b")
    b.kill()
    os.kill(vmm, signal.SIGKILL)
    lab.eventually(lambda: not [p for p in lab.processes() if "/run/b/" in p], "the holder ends after its VMM")
    lab.eventually(lambda: not [m for m in lab.mounts() if "/run/b/" in m], "and takes the mount away")
    b = lab.restart(b)
    check(b.exited() not in (0, None), "the next start refuses files that are no VM")
    check(any("wait status 9" in text for text in b.messages("warning")), "and says how the VMM ended")

    c = lab.peer("c", package, vmm={"serial": "none"})
    c.wait("resumed")
    keeper = holder(lab, "c")
    c.kill()
    os.kill(keeper, signal.SIGTERM)
    lab.eventually(lambda: not [p for p in lab.processes() if "/run/c/" in p], "SIGTERM to the holder ends the VM")
    lab.eventually(lambda: not [m for m in lab.mounts() if "/run/c/" in m], "and takes the mount away")
    check(lab.restart(c).exited() not in (0, None), "its files are no VM either")


drafterlab.main(test)
