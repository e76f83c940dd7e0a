#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Eight nodes pull one package at once through one slow link; each one's guest runs before the package is there."""

import os

import drafterlab
from drafterlab import check

MIB = 1 << 20


def test(lab):
    count = int(os.environ.get("PULLERS", "8"))
    package = lab.package("fill=24 dirty=1 rate=500 check=1", memory="40M")
    names = [f"p{number}" for number in range(count)]
    beats = {name: lab.heartbeats(name) for name in names}
    registry = lab.registry("registry", package)
    before = lab.digest(package)
    address, control = lab.link(registry, 10, "300m")
    pullers = [lab.peer(name, connect=address, listen=None) for name in names]
    for puller in pullers:
        puller.wait("resumed")
    check(not any(puller.find("arrived") for puller in pullers), "all guests run before any package is complete")
    for puller in pullers:
        first = puller.wait("arriving", state="completing")
        check(first["missing"] > 0, f"{puller.name} ran while {first['missing'] / MIB:.0f} MiB were missing")
    for puller in pullers:
        puller.wait("arrived")
    for name in names:
        beats[name].goes_on(name, 0)
    check(control("stats")["down"]["bytes_out"] < count * 28 * MIB, "what is zero did not travel")
    for puller in pullers:
        check(puller.stop() == 0, f"{puller.name} saved its copy")
        report = beats[puller.name].report()
        check(report["intact"] and not report["bad"], f"the guest of {puller.name} is intact after {report['count']} beats")
    check(registry.stop() == 0, "the registry ends with 0")
    check(lab.digest(package) == before, "its package is what it was")


drafterlab.main(test)
