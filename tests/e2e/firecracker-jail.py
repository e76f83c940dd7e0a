#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM in a jailed Firecracker, which runs as nobody in a root directory of its own, is snapshotted, started and moved."""

import os

import drafterlab
import firecrackerlab
from drafterlab import check


def owner(lab, node):
    """User ids and root entries of the one Firecracker of a node."""
    roots = [root for root in lab.jails() if os.path.exists(f"{root}/firecracker.sock")]
    check(len(roots) == 1, f"{node.name} has the one jail {roots}")
    return roots[0], os.stat(f"{roots[0]}/vsock.sock_26").st_uid, sorted(os.listdir(roots[0]))


def test(lab):
    package = lab.package(firecrackerlab.BUSY, memory="32M")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    root, uid, names = owner(lab, a)
    check(uid == 65534, "the agent's socket belongs to the jail's user")
    check({"kernel", "memory", "vsock.sock"} <= set(names), f"devices and sockets are in the jail: {names}")
    b = lab.peer("b", connect=a)
    b.wait("arrived")
    check(a.exited() == 0, "a handed over and ended with 0")
    check(not os.path.exists(root), "its jail is gone")
    beats.verified("b")
    report = beats.report()
    drafterlab.continuous(report)
    drafterlab.intact(report)
    check(b.stop() == 0, "b saves the VM and ends with 0")
    check(not lab.jails(), "no jail is left")


firecrackerlab.need_jailer()
firecrackerlab.main(test, firecrackerlab.JailedLab)
