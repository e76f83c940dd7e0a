#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A guest whose hook does not answer stays where it is, or goes when hook-errors says so."""

import json
import pathlib

import drafterlab
from drafterlab import check


def claim_agent(package):
    """The package says that its guest has an agent, which it has not."""
    path = pathlib.Path(package) / drafterlab.FILES["config"]
    size = path.stat().st_size
    config = json.loads(path.read_bytes().rstrip(b"\0"))
    config["agentVSockPort"] = 26
    path.write_bytes(json.dumps(config).encode().ljust(size, b"\0"))


def test(lab):
    package = lab.package(drafterlab.QUIET)
    claim_agent(package)
    beats = lab.heartbeats("a", "b", "c")
    timeout = {"hook_timeout": "300ms"}
    a = lab.peer("a", package, **timeout)
    b = lab.peer("b", connect=a, **timeout)
    a.wait("kept")
    check(b.exited() != 0, "b ends without the VM")
    check(any("not moved" in text and "BeforeSuspend" in text for text in a.messages("warning")), "a says why it keeps it")
    lab.nodes.remove(b)
    beats.goes_on("a")
    check(a.stop() == 0, "a saves the VM all the same")
    lab.nodes.remove(a)
    a = lab.peer("a", lab.path("a"), copy=False, hook_errors="ignore", **timeout)
    c = lab.peer("c", connect=a, **timeout)
    c.wait("arrived")
    check(a.exited() == 0, "a hands over when told to ignore the hook")
    check(any("all the same" in text for text in a.messages("warning")), "with a warning")
    beats.goes_on("c")


drafterlab.main(test)
