#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM moves, and what its bucket has of it does not cross the link; what the bucket has lost does."""

import json
import os
import pathlib
import random
import subprocess
import tempfile
import time
import urllib.request

from nodelab import DEVICES, PATIENCE, Node, make_package

BLOCK = 64 << 10
BLOCKS = 64


def ask(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=data, timeout=PATIENCE) as answer:
        return json.load(answer)


def peer(directory, port, address, disk):
    text = (f"[peer]\ntransport = unix\nvmm = null\nexposure = null\n{address}\n"
            f"[storage:local]\nplugin = file\npath = {disk}\n"
            f"[storage:disk]\nplugin = s3\nnext = local\nendpoint = http://127.0.0.1:{port}\nbucket = test\n"
            f"prefix = vm/disk/\nblock-size = {BLOCK}\ncheck-period = 20ms\n")
    text += "".join(f"[device:{d}]\nbase = {directory}/{d}\n" for d in DEVICES)
    return Node(directory, "peer", text + f"[device:disk]\nblock-size = {BLOCK}\nstorage = disk\nshared-base = yes\n")


def wait_for_copy(port):
    deadline = time.monotonic() + PATIENCE
    while not (names := ask(port, "/_objects")) or sum("/b/" in name for name in names) < BLOCKS \
            or not any("/i/" in name for name in names):
        assert time.monotonic() < deadline, names
        time.sleep(0.05)


def fetched(port):
    return [path for method, path in ask(port, "/_log") if method == "GET" and "/b/" in path]


def move(lab, port, lose):
    a, b = lab / "a", lab / "b"
    for directory in (a, b):
        directory.mkdir()
    make_package(a)
    disk = random.Random(3).randbytes(BLOCK * BLOCKS)
    (a / "disk").write_bytes(disk)
    source = peer(a, port, f"listen = {a}/socket", a / "disk")
    source.wait("listening")
    wait_for_copy(port)
    lost = sorted(name for name in ask(port, "/_objects") if "/b/" in name)[:lose]
    ask(port, "/_faults", [{"action": "status", "status": 404, "count": 1000, "path": name} for name in lost])
    destination = peer(b, port, f"connect = {a}/socket\ndisable-postcopy-migration = yes", b / "disk")
    destination.wait("arrived")
    assert source.child.wait(PATIENCE) == 0, source.said()
    assert len(fetched(port)) == BLOCKS, f"each block of the bucket is tried once, not {len(fetched(port))}"
    ask(port, "/_faults", [])
    assert (b / "disk").read_bytes() == disk
    destination.stop()
    roots = [path for method, path in ask(port, "/_log") if method == "PUT" and path.endswith("/root")]
    assert len(roots) >= 3, "the destination has taken the copy over"
    print(f"ok: {BLOCKS - lose} of {BLOCKS} blocks came from the bucket", flush=True)


def main():
    server = os.environ.get("S3_SERVER", pathlib.Path(__file__).resolve().parent.parent / "s3" / "server.py")
    os.environ.update(AWS_ACCESS_KEY_ID="AKTEST", AWS_SECRET_ACCESS_KEY="SKTEST/secret+key")
    for lose in (0, 5):
        with tempfile.TemporaryDirectory(prefix="drafter-s3-") as name, \
                subprocess.Popen(["python3", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                move(pathlib.Path(name), int(process.stdout.readline()), lose)
            finally:
                Node.end_all()
                process.stdin.close()


main()
