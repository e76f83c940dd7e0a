#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM whose peers lost each other half-way is taken over by force at its source, and the other side is fenced."""

import json
import subprocess

import drafterlab
from drafterlab import check


def ownership(node, *more):
    done = subprocess.run([drafterlab.DRAFTER, "ownership", "--json", "--config", node.config, *more],
                          capture_output=True, text=True, timeout=drafterlab.PATIENCE, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def look(node, **expected):
    status, seen = ownership(node)
    found = {key: seen[key] for key in expected}
    check(status == 0 and found == expected, f"the ledger of {node.name}: {found}")
    return seen


def refused(node, *words):
    check(node.exited() == 4, f"{node.name} does not start")
    error = node.messages("error")[-1]
    check(all(word in error for word in words), f"and says: {error}")


def test(lab):
    package = lab.package("fill=64 dirty=60 rate=0 write=full check=1")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package, max_passes=1)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    look(a, state="owned", epoch=1, owner="this node", running=True)
    address, control = lab.link(a, 10, "100m")
    b = lab.peer("b", connect=address)
    b.wait("resumed")
    control("quit")
    check(a.stop() == 8, "a source that is ended before it sent everything says so")
    seen = look(a, state="relinquished", epoch=2, running=False)
    check(not seen["start"]["allowed"] and seen["owner"] in seen["start"]["reason"], "its VM does not start there")
    check(seen["take_over"]["allowed"], "but may be taken over")
    look(b, state="owned, incomplete", epoch=2, owner="this node", running=True)
    check(ownership(b, "--take-over=2")[0] == 5, "not at a node where it runs")

    again = lab.peer("a", lab.path("a"))
    refused(again, seen["owner"], "epoch 2")
    check(ownership(a, "--take-over=1")[0] == 5, "a take-over that names another epoch is refused")
    check(ownership(a, "--take-over=soon")[0] == 2, "and one that names none")
    status, seen = ownership(a, "--take-over=2")
    check(status == 0 and seen["state"] == "owned, saved" and seen["epoch"] == 3, "the right one is done")

    a = lab.peer("a", lab.path("a"), listen=address)
    a.wait("listening")
    check(b.exited() == 5, "the other side, when it comes back for pages, ends its guest")
    check("taken away by force" in b.messages("error")[-1] and "epoch 3" in b.messages("error")[-1], b.messages("error")[-1])
    beats.goes_on("a")
    silent = beats.count("b")
    beats.goes_on("a")
    check(beats.count("b") == silent, "which is silent from then on")
    look(a, state="owned", epoch=3, running=True)
    look(b, state="relinquished", epoch=3, running=False)
    refused(lab.peer("b", lab.path("b")), "epoch 3")


drafterlab.main(test)
