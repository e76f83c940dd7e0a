#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the source at steps of a move, then a new start of it.

Before RELINQUISHED is recorded the guest goes on at the source by itself; afterwards the destination gets the rest of it
from the source's next process.
"""

import shutil

import drafterlab
from drafterlab import check

STAYS = ("S4", "S5", "S7", "S8", "S9")
LEAVES = ("S10", "S11", "S16")


def move(lab, step, leaves):
    port = lab.free_port()
    a = lab.peer("a", lab.packaged, listen=f"127.0.0.1:{port}", failpoint=f"{step}:kill")
    beats = lab.heartbeats("a", "b")
    beats.wait("beat", "a", drafterlab.PATIENCE)
    b = lab.peer("b", connect=f"127.0.0.1:{port}", overwrite=True, relink_timeout="15s")
    check(a.exited() == -9, f"the source dies at {step}")
    a = lab.restart(a)
    a.wait("adopted")
    if leaves:
        b.wait("arrived")
        check(a.exited() == 0, f"killed at {step}: the source's next process handed over the rest")
        beats.verified("b")
        check(b.stop() == 0, "the destination saves the VM")
    else:
        beats.goes_on("a", 0.3)
        check(b.exited() != 0 and not beats.count("b"), f"killed at {step}: the VM stayed, the destination gave up")
        check(a.stop() == 0, "the source saves the VM")
    drafterlab.intact(beats.report())
    for name in ("a", "b"):
        shutil.rmtree(lab.path(name), ignore_errors=True)
        shutil.rmtree(lab.path(f"state/{name}"), ignore_errors=True)


def test(lab):
    lab.packaged = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    for step in STAYS:
        move(lab, step, False)
    for step in LEAVES:
        move(lab, step, True)


drafterlab.main(test)
