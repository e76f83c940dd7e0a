#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Moves over UNIX sockets, with the usual number of bulk streams, with one, and with many."""

import os

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package(drafterlab.BUSY)
    beats = lab.heartbeats("a", "b", "c", "d")
    node = lab.peer("a", package, transport="unix", listen=lab.path("a.sock"))
    for name, streams in (("b", None), ("c", 1), ("d", 8)):
        path = node.address
        check(path == lab.path(f"{node.name}.sock"), f"{node.name} listens at {path}")
        target = lab.peer(name, connect=path, transport="unix", listen=lab.path(f"{name}.sock"), streams=streams)
        target.wait("arrived")
        check(node.exited() == 0 and not os.path.exists(path), f"{node.name} ended and removed its socket")
        node = target
    beats.goes_on("d", 0.3)
    report = beats.report()
    check(len(report["switches"]) == 3, "the guest moved with two bulk streams, one, and eight")
    drafterlab.intact(report)


drafterlab.main(test)
