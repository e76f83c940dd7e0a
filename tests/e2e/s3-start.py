#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests start from a package that is an object in a bucket, of which only what they need is fetched."""

import json
import os
import subprocess
import sys
import time

import drafterlab
from drafterlab import DEVICES, DRAFTER, FILES, check, section

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
from s3lab import Server  # noqa: E402

MIB = 1 << 20


def upload(lab, package, server):
    ini = lab.path("packager.ini")
    with open(ini, "w") as file:
        file.write(f"[packager]\nstorage = object\npackage-path = {lab.path('app.tar.zst')}\n{server.object('packages/app')}")
    devices = json.dumps([{"name": name, "path": f"{package}/{FILES[name]}"} for name in DEVICES])
    subprocess.run([DRAFTER, "packager", "--config", ini, "-devices", devices], check=True, timeout=120)
    return os.stat(lab.path("app.tar.zst")).st_size


def start(lab, server, name, **options):
    os.makedirs(lab.path(name), exist_ok=True)
    devices = {device: {"base": None, "storage": "app", "shared": True} for device in ("kernel", "config")}
    for device in DEVICES:
        if device not in devices:
            devices[device] = {"base": None, "storage": "app", "overlay": lab.path(f"{name}/{device}.overlay"),
                               "state": lab.path(f"{name}/{device}.map")}
    return lab.peer(name, devices=devices, extra=section("storage:app", plugin="package", next="object") +
                    server.object("packages/app"), **options)


def from_bucket(lab, server):
    size = upload(lab, lab.package("fill=64 dirty=4 rate=5000 check=1", memory="256M"), server)
    for name in "ab":
        before, started = server.bytes_read(), time.monotonic()
        beats = lab.heartbeats(name)
        node = start(lab, server, name, listen=None)
        beats.wait("beat", name, drafterlab.PATIENCE)
        took, fetched = time.monotonic() - started, server.bytes_read() - before
        beats.goes_on(name, 0.3)
        print(f"exec to beat {took * 1000:.0f} ms with {fetched / MIB:.1f} of {size / MIB:.1f} MiB of the package", flush=True)
        check(fetched < size, "not all of the package was fetched")
        check(node.stop() == 0, f"{name} is saved")
        drafterlab.intact(beats.report())
    again = lab.heartbeats("a")
    node = start(lab, server, "a", listen=None)
    again.wait("beat", "a", drafterlab.PATIENCE)
    again.verified("a")
    check(node.stop() == 0, "a went on from its overlays")
    drafterlab.intact(again.report())


def test(lab):
    with Server() as server:
        from_bucket(lab, server)


drafterlab.main(test)
