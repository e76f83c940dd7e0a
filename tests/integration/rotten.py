#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM comes to a host that has most of its disk: what has rotted there is sent, and keeps nothing from arriving."""

import pathlib
import random
import tempfile

from nodelab import DEVICES, PATIENCE, Node, make_package

BLOCK = 64 << 10
BLOCKS = 16
PLUGINS = "transport = unix\nvmm = null\nexposure = null\ndisable-postcopy-migration = yes\noverwrite = yes\n"


def bases(directory):
    return "".join(f"[device:{device}]\nbase = {directory}/{device}\n" for device in DEVICES)


def move(a, b, content):
    for ledger in (a / "vm.ledger", b / "vm.ledger"):
        ledger.unlink(missing_ok=True)
    source = Node(a, "peer", f"[peer]\n{PLUGINS}listen = {a}/socket\n{bases(a)}"
                  f"[device:disk]\nblock-size = {BLOCK}\nbase = {a}/disk\n")
    source.wait("listening")
    target = Node(b, "peer", f"[peer]\n{PLUGINS}connect = {a}/socket\n[storage:local]\nplugin = file\npath = {b}/disk\n"
                  f"[storage:disk]\nplugin = cow\nnext = local\noverlay = {b}/overlay\nstate = {b}/state.cow\n{bases(b)}"
                  f"[device:disk]\nblock-size = {BLOCK}\nstorage = disk\nshared-base = yes\n")
    target.wait("arrived")
    target.stop()
    assert source.child.wait(PATIENCE) == 0, source.said()
    found = (b / "overlay").read_bytes()
    assert found[:len(content)] == content, target.said()


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-rotten-") as directory:
        try:
            a, b = pathlib.Path(directory, "a"), pathlib.Path(directory, "b")
            for host in (a, b):
                host.mkdir()
            make_package(a)
            content = random.Random(5).randbytes(BLOCK * BLOCKS)
            (a / "disk").write_bytes(content)
            (b / "disk").write_bytes(bytes(len(content)))
            move(a, b, content)
            with open(b / "overlay", "r+b") as overlay:
                overlay.seek(3 * BLOCK + 17)
                overlay.write(bytes([content[3 * BLOCK + 17] ^ 1]))
            move(a, b, content)
        finally:
            Node.end_all()


main()
