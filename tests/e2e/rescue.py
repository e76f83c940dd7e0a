#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A node that fails after the guest was resumed saves what the guest has become."""

import contextlib
import socket

import drafterlab
from drafterlab import check


def last_beat(log):
    with open(log) as lines:
        return max(int(line.split()[2]) for line in lines if line.endswith("\n") and line.count(" ") == 4)


def test(lab):
    package = lab.package("fill=16 dirty=4 rate=4000 check=1")
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        beats = lab.heartbeats("a")
        node = lab.peer("a", package, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        node.wait("resumed")
        check(node.exited() != 0, "a node whose address is taken ends with an error")
        check(len(node.messages("error")) == 1, f"which it says once: {node.messages('error')}")
        check(node.find("rescued"), "the guest's state was saved")
        lab.nodes.remove(node)
    before = last_beat(beats.log) if beats.count("a") else 0
    node = lab.peer("a", lab.path("a"), copy=False)
    node.wait("resumed")
    beats.goes_on("a")
    check(last_beat(beats.log) > before, "the guest goes on where it was")
    beats.verified("a")
    drafterlab.intact(beats.report())


drafterlab.main(test)
