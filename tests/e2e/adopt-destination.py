#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the destination at steps of a move, then a new start of it.

Once it has said READY its next process takes the VM, or the rest of it, and what goes along with it.
"""

import os
import pathlib
import shutil

import drafterlab
from drafterlab import check

LEAVES = ("S11", "S12", "S13", "S14", "S16", "S17", "S18")


def move(lab, step):
    data = pathlib.Path(lab.path("state/a/vm.handover"))
    os.makedirs(data.parent)
    data.write_text(step)
    a = lab.peer("a", lab.packaged)
    beats = lab.heartbeats("a", "b")
    beats.wait("beat", "a", drafterlab.PATIENCE)
    b = lab.peer("b", connect=a, failpoint=f"{step}:kill")
    check(b.exited() == -9, f"the destination dies at {step}")
    b = lab.restart(b)
    b.wait("adopted")
    b.wait("arrived")
    check(a.exited() == 0, f"killed at {step}: the destination's next process took the rest")
    came = {path.name: path.read_text() for path in pathlib.Path(lab.path("state/b")).glob("vm.handover*")}
    check(came == {"vm.handover": step}, f"with what goes along: {came}")
    beats.verified("b")
    check(b.stop() == 0, "the destination saves the VM")
    drafterlab.intact(beats.report())
    for name in ("a", "b"):
        shutil.rmtree(lab.path(name), ignore_errors=True)
        shutil.rmtree(lab.path(f"state/{name}"), ignore_errors=True)


def test(lab):
    lab.packaged = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    for step in LEAVES:
        move(lab, step)


drafterlab.main(test)
