#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM that was saved starts again; one whose node was killed does not, and the refusal leaves its files alone."""

import hashlib
import pathlib
import tempfile

import nodelab


def digests(directory):
    return [hashlib.sha256(pathlib.Path(directory, device).read_bytes()).digest() for device in nodelab.DEVICES]


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-kill-") as directory:
        nodelab.make_package(directory)
        for _ in range(2):
            nodelab.start_peer(directory).stop()
        print("ok: a saved VM starts again", flush=True)
        node = nodelab.start_peer(directory)
        node.child.kill()
        node.child.wait()
        before = digests(directory)
        again = nodelab.start_peer(directory, wait=False)
        status = again.child.wait(nodelab.PATIENCE)
        assert status not in (0, 2) and "was not saved" in again.said(), (status, again.said())
        assert digests(directory) == before
        assert not pathlib.Path(directory, "run/vm").exists(), "what the killed node left is removed"
        print("ok: a VM that was not saved does not", flush=True)


main()
