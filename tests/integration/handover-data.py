#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A file of the operator's goes along with the VM from host to host, and one that may not keeps the VM."""

import os
import pathlib
import stat
import tempfile

from nodelab import Node, Peer, make_package

LIMIT = 64 << 10


def move(source, directory, more=""):
    """The source ends by itself once the VM is gone."""
    target = Peer(directory, f"connect = {source.directory}/socket\n{more}")
    target.wait("arrived")
    assert source.child.wait(60) == 0, source.said()
    target.wait("listening")
    return target


def is_kept(source, directory, reason):
    os.makedirs(directory)
    before = pathlib.Path(directory, "vm.handover")
    before.write_text("of this host")
    target = Peer(directory, f"connect = {source.directory}/socket\n")
    assert target.child.wait(60) != 0 and reason in target.said(), target.said()
    assert before.read_text() == "of this host"
    source.wait("kept")
    assert source.child.poll() is None


def main(work):
    make_package(work)
    first = Peer(f"{work}/first", "", work)
    first.wait("listening")

    first.data.write_bytes(bytes(LIMIT + 1))
    is_kept(first, f"{work}/refused", f"at most {LIMIT} bytes")
    first.data.unlink()
    first.data.mkdir()
    is_kept(first, f"{work}/unreadable", "hand-over data")
    first.data.rmdir()

    content = os.urandom(LIMIT)
    first.data.write_bytes(content)
    second = move(first, f"{work}/second")
    assert second.data.read_bytes() == content and stat.S_IMODE(second.data.stat().st_mode) == 0o600
    assert f'"event":"handover-data","vm":"vm","bytes":{LIMIT}' in second.said()

    # On to a host that has another name for it, and from there without it.
    named = pathlib.Path(work, "named")
    third = move(second, f"{work}/third", f"handover-data = {named}\n")
    assert named.read_bytes() == content and not third.data.exists()
    named.unlink()
    os.makedirs(f"{work}/fourth")
    stale = pathlib.Path(work, "fourth", "vm.handover")
    stale.write_text("of another VM")
    fourth = move(third, f"{work}/fourth")
    assert not stale.exists() and "handover-data" not in fourth.said()
    fourth.stop()


with tempfile.TemporaryDirectory() as directory:
    try:
        main(directory)
    finally:
        Node.end_all()
