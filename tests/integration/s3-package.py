#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A package goes into a bucket, VMs start from it there, and a registry hands it out."""

import json
import os
import pathlib
import random
import subprocess
import tempfile

from nodelab import DEVICES, PATIENCE, Node, make_package
from s3lab import Server

DISK = 24 << 20
NAMES = (*DEVICES, "disk")


def drafter(*words, status=0):
    done = subprocess.run([os.environ["DRAFTER"], *map(str, words)], capture_output=True, text=True, timeout=PATIENCE,
                          check=False)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stderr


def packager(lab, server, *words, status=0, more=""):
    ini = lab / "packager.ini"
    ini.write_text(f"[packager]\nstorage = object\npackage-path = {lab}/app.tar.zst\n{server.object('packages/app', more)}")
    devices = json.dumps([{"name": name, "path": f"{lab}/{'out' if '-extract' in words else 'in'}/{name}"} for name in NAMES])
    return drafter("packager", "--config", ini, "-devices", devices, *words, status=status)


def make(lab, server):
    (lab / "in").mkdir()
    make_package(lab / "in")
    (lab / "in/disk").write_bytes(random.Random(4).randbytes(DISK))
    said = packager(lab, server)
    size = (lab / "app.tar.zst").stat().st_size
    assert server.objects() == {"packages/app": size}, (server.objects(), said)
    assert server.uploads() == [] and size > 24 << 20, "that is more than one part"
    assert "it exists" in packager(lab, server, "-send", status=5) and server.uploads() == []
    server.faults({"action": "status", "status": 403, "method": "PUT", "count": 1})
    packager(lab, server, "-send", status=4, more="replace = yes\n")
    assert server.objects() == {"packages/app": size} and server.uploads() == [], "what was there stays"
    (lab / "app.tar.zst").rename(lab / "whole")
    (lab / "app.tar.zst").write_bytes((lab / "whole").read_bytes()[:-100])
    packager(lab, server, "-send", status=2, more="replace = yes\n")
    packager(lab, server, "-extract")
    for name in NAMES:
        assert (lab / "out" / name).read_bytes() == (lab / "in" / name).read_bytes(), name
    print(f"ok: {size >> 20} MiB went into the bucket and came back; what is there is not lost", flush=True)


def node(directory, server, role, text, overlay=True):
    directory.mkdir()
    text = (f"[{role}]\ntransport = unix\n{text}[storage:app]\nplugin = package\nnext = object\n"
            f"{server.object('packages/app', 'readahead = 2' + chr(10))}")
    for name in NAMES:
        text += f"[device:{name}]\nstorage = app\n"
        text += f"overlay = {directory}/{name}.overlay\nstate = {directory}/{name}.state\n" if overlay else ""
    return Node(directory, role, text)


def starts(lab, server):
    peer = node(lab / "peer", server, "peer", f"vmm = null\nexposure = null\nlisten = {lab}/peer/socket\n")
    peer.wait("listening")
    peer.stop()
    print("ok: a VM starts from it, and overlays take what it changes", flush=True)


def is_handed_out(lab, server):
    """What nobody asks for is not fetched."""
    before = server.bytes_read()
    registry = node(lab / "registry", server, "registry", f"listen = {lab}/registry/socket\n", overlay=False)
    registry.wait("listening")
    fetched, size = server.bytes_read() - before, (lab / "whole").stat().st_size
    assert fetched < 4 << 20, f"{fetched} of {size} bytes"
    b = lab / "b"
    b.mkdir()
    text = (f"[peer]\ntransport = unix\nvmm = null\nexposure = null\nconnect = {lab}/registry/socket\n"
            "disable-postcopy-migration = yes\n")
    Node(b, "peer", text + "".join(f"[device:{name}]\nbase = {b}/{name}\n" for name in NAMES)).wait("arrived")
    assert (b / "disk").read_bytes() == (lab / "in/disk").read_bytes()
    print(f"ok: a registry that has read {fetched >> 10} KiB of {size >> 20} MiB hands it out", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-s3-") as name, Server() as server:
        try:
            for test in (make, starts, is_handed_out):
                test(pathlib.Path(name), server)
        finally:
            Node.end_all()


main()
