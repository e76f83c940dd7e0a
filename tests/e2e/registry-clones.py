#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Two guests run at a time from one package, each with overlays; the package is never written."""

import os

import drafterlab
from drafterlab import check

MIB = 1 << 20


def clone(lab, package, name):
    os.makedirs(lab.path(name), exist_ok=True)
    layers = {device: {"overlay": lab.path(f"{name}/{device}.overlay"), "state": lab.path(f"{name}/{device}.map")}
              for device in ("state", "memory")}
    layers |= {"kernel": {"shared": True}, "config": {"shared": True}}
    return lab.peer(name, package, copy=False, listen=None, devices=layers)


def test(lab):
    package = lab.package("fill=32 dirty=4 rate=5000 check=1", memory="96M")
    before = lab.digest(package)
    beats = {name: lab.heartbeats(name) for name in "ab"}
    a, b = clone(lab, package, "a"), clone(lab, package, "b")
    for name in "ab":
        beats[name].wait("beat", name, drafterlab.PATIENCE)
    for name in "ab":
        beats[name].goes_on(name, 0.3)
    check(a.stop() == 0 and b.stop() == 0, "both are saved")
    last = {name: beats[name].report() for name in "ab"}
    for name in "ab":
        drafterlab.intact(last[name])
    check(lab.digest(package) == before, "the package is what it was")
    used = os.stat(lab.path("a/memory.overlay")).st_blocks * 512
    check(used < 24 * MIB, f"the overlay holds what was written: {used / MIB:.1f} MiB")
    beats = lab.heartbeats("a")
    a = clone(lab, package, "a")
    beats.wait("beat", "a", drafterlab.PATIENCE)
    beats.goes_on("a")
    check(a.stop() == 0, "a ran again")
    report = beats.report()
    check(report["first_seq"] == last["a"]["last_seq"] + 1 or report["first_seq"] > last["a"]["last_seq"],
          f"from where it was: beat {last['a']['last_seq']}, then {report['first_seq']}")
    drafterlab.intact(report)


drafterlab.main(test)
