#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM moves, and what its bucket has of it does not cross the link; what the bucket has lost does."""

import json
import pathlib
import random
import tempfile
import time

from nodelab import DEVICES, PATIENCE, Node, make_package
from s3lab import Server

BLOCK = 64 << 10
BLOCKS = 128


def peer(directory, server, address, disk):
    text = (f"[peer]\ntransport = unix\nvmm = null\nexposure = null\n{address}\n"
            f"[storage:local]\nplugin = file\npath = {disk}\n{server.section('disk')}next = local\n"
            f"prefix = vm/disk/\nblock-size = {BLOCK}\ncheck-period = 20ms\n")
    text += "".join(f"[device:{d}]\nbase = {directory}/{d}\n" for d in DEVICES)
    return Node(directory, "peer", text + f"[device:disk]\nblock-size = {BLOCK}\nstorage = disk\nshared-base = yes\n")


def wait_for_copy(server):
    """Until all of it is there and committed: then nothing more is sent."""
    deadline, before = time.monotonic() + PATIENCE, None
    while True:
        blocks = sum("/b/" in name for name in server.objects())
        sent = len(server.requests("PUT", "vm/disk/"))
        if blocks == BLOCKS and sent == before and sent > BLOCKS + 2:  # and a part of the index, and two roots
            return
        assert time.monotonic() < deadline, (blocks, sent)
        before = sent
        time.sleep(0.3)


def received(node):
    """Bytes that crossed the link, as the destination said last."""
    return max(json.loads(line).get("received", 0) for line in node.said().splitlines() if '"arriving"' in line)


def move(lab, server, lose):
    a, b = lab / "a", lab / "b"
    for directory in (a, b):
        directory.mkdir()
    make_package(a)
    rest = sum((a / name).stat().st_size for name in DEVICES)
    disk = random.Random(3).randbytes(BLOCK * BLOCKS)
    (a / "disk").write_bytes(disk)
    source = peer(a, server, f"listen = {a}/socket", a / "disk")
    source.wait("listening")
    wait_for_copy(server)
    lost = sorted(name for name in server.objects() if "/b/" in name)[:lose]
    server.faults(*({"action": "status", "status": 404, "count": 1000, "path": name} for name in lost))
    destination = peer(b, server, f"connect = {a}/socket\ndisable-postcopy-migration = yes", b / "disk")
    destination.wait("arrived")
    assert source.child.wait(PATIENCE) == 0, source.said()
    tried = len(server.requests("GET", "/b/"))
    assert tried == BLOCKS, f"each block of the bucket is tried once, not {tried}"
    server.faults()
    assert (b / "disk").read_bytes() == disk
    destination.stop()
    assert f"{BLOCKS - lose} of {BLOCKS} blocks came from the bucket" in destination.said(), destination.said()
    crossed = received(destination)
    assert crossed < lose * BLOCK + rest + (1 << 20), f"{crossed} bytes crossed the link"
    assert len(server.requests("PUT", "/root")) >= 3, "the destination has taken the copy over"
    print(f"ok: {BLOCKS - lose} of {BLOCKS} blocks came from the bucket, {crossed >> 10} KiB from the source", flush=True)


def main():
    for lose in (0, 5):
        with tempfile.TemporaryDirectory(prefix="drafter-s3-") as name, Server() as server:
            try:
                move(pathlib.Path(name), server, lose)
            finally:
                Node.end_all()


main()
