#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""CUSTOM said twice, late, early, too long or where it does not belong, and deaths between it and the hand-over: what comes along
with a VM is here when the VM is and not before, and a host's own file stays until then."""

import os
import pathlib
import subprocess
import tempfile
import threading
import time

from nodelab import DEVICES, PATIENCE, Node, Peer, make_package
from wirelib import ACCEPT, COMMIT, CUSTOM, DATA, OFFER, PASS, Frame, Relay

LIMIT = 64 << 10
CONTENT, OWN = b"of the VM", b"of this host"


def untouched(_forth, _control, frame):
    return [frame]


def beside(kind, ahead=(), after=(), forth=True, control=True, once=False):
    """More frames ahead of those of a kind and after them."""
    done = threading.Event()

    def edit(is_forth, is_control, frame):
        if (is_forth, is_control, frame.kind) != (forth, control, kind) or (once and done.is_set()):
            return [frame]
        done.set()
        return [*ahead, frame, *after]
    return edit


class Switch:
    def __init__(self, edit):
        self.edit, self.on = edit, True

    def __call__(self, *words):
        return self.edit(*words) if self.on else [words[-1]]


class Held:
    """Stops at COMMIT, which never gets further."""

    def __init__(self):
        self.reached, self.over = threading.Event(), threading.Event()

    def __call__(self, forth, _, frame):
        if not forth or frame.kind != COMMIT or self.over.is_set():
            return [frame]
        self.reached.set()
        self.over.wait(PATIENCE)
        return []


class Move:
    """A VM on its way from a source through a relay to a target, where there is a file of the same name."""

    def __init__(self, work, edit, content=CONTENT, failpoint=None):
        self.directory = tempfile.mkdtemp(dir=work)
        here = f"{self.directory}/source"
        os.mkdir(here)
        subprocess.run(["cp", "--sparse=always", *(f"{work}/{device}" for device in DEVICES), here], check=True)
        self.source = Peer(here, "")
        self.source.wait("listening")
        if content is not None:
            self.source.data.write_bytes(content)
        self.relay = Relay(f"{self.directory}/relay", f"{here}/socket", edit)
        os.mkdir(f"{self.directory}/target")
        pathlib.Path(self.directory, "target/vm.handover").write_bytes(OWN)
        self.target = self.start_target(failpoint)

    def start_target(self, failpoint=None):
        if failpoint:
            os.environ["DRAFTER_FAILPOINT"] = failpoint
        try:
            return Peer(f"{self.directory}/target", f"connect = {self.directory}/relay\n")
        finally:
            os.environ.pop("DRAFTER_FAILPOINT", None)

    def arrives(self, expected):
        self.target.wait("arrived")
        found = self.target.data.read_bytes() if self.target.data.exists() else None
        assert found == expected, f"{found and found[:40]}, not {expected and expected[:40]}: {self.target.said()}"
        assert self.left() == []
        assert self.source.child.wait(PATIENCE) == 0, self.source.said()
        self.end()

    def left(self):
        """Files of data besides the one that everybody looks at."""
        return [name for name in os.listdir(f"{self.directory}/target") if name.startswith("vm.handover.")]

    def stays(self):
        """The target has nothing of it, and the source runs."""
        status = self.target.child.wait(PATIENCE)
        assert status > 0, (status, self.target.said())
        assert self.target.data.read_bytes() == OWN and self.left() == [], self.target.said()
        assert self.source.child.poll() is None and self.source.data.read_bytes() == CONTENT

    def end(self):
        self.relay.close()
        for node in (self.target, self.source):
            if node.child.poll() is None:
                node.stop()


def said_again(work):
    other = [Frame(CUSTOM, b"another")]
    Move(work, beside(CUSTOM, ahead=other)).arrives(CONTENT)
    Move(work, beside(CUSTOM, after=other)).arrives(b"another")
    Move(work, beside(CUSTOM, after=[*other, Frame(CUSTOM)])).arrives(None)
    Move(work, beside(COMMIT, after=[*other, *other])).arrives(CONTENT)


def said_early(work):
    """As by a source whose hand-over failed: what it says now is that there is nothing."""
    Move(work, beside(PASS, ahead=[Frame(CUSTOM, b"of a hand-over that failed")]), content=None).arrives(None)


def said_where_it_does_not_belong(work):
    move = Move(work, beside(OFFER, ahead=[Frame(CUSTOM, b"hello")]))
    move.stays()
    move.end()
    Move(work, beside(DATA, ahead=[Frame(CUSTOM, b"bulk")], control=False, once=True)).arrives(CONTENT)
    move = Move(work, beside(ACCEPT, after=[Frame(CUSTOM, b"from the target")] * 3, forth=False))
    move.arrives(CONTENT)
    assert move.source.data.read_bytes() == CONTENT


def too_long(work):
    """The link ends each time, at once, and the target looks for it no longer than it may."""
    edit = Switch(beside(CUSTOM, after=[Frame(CUSTOM, bytes(LIMIT + 1))]))
    move = Move(work, edit)
    assert move.target.child.wait(PATIENCE) > 0, move.target.said()
    assert move.target.said().count("relinked") < 20
    edit.on = False
    goes_on(move)
    Move(work, beside(CUSTOM, after=[Frame(CUSTOM, bytes(LIMIT))])).arrives(bytes(LIMIT))


def kill(node):
    node.child.kill()
    node.child.wait()


def killed_while_held(work, side):
    """Between CUSTOM and COMMIT."""
    held = Held()
    move = Move(work, held)
    assert held.reached.wait(PATIENCE), move.source.said()
    kill(getattr(move, side))
    held.over.set()
    return move


def target_dies(work):
    """Ahead of COMMIT: the next one says that it never had the VM, and the one after that takes it over."""
    goes_on(killed_while_held(work, "target"))


def target_dies_with_commit(work):
    move = Move(work, untouched, failpoint="S11:kill")
    move.target.child.wait(PATIENCE)
    goes_on(move)


def goes_on(move):
    """The next target says that the VM never ran there, hears that it stayed, and takes it over: it or one after it."""
    assert move.target.data.read_bytes() == OWN and move.left() == [], "nothing is seen of what came"
    for _ in range(3):
        move.target = move.start_target()
        deadline = time.monotonic() + PATIENCE
        while move.target.child.poll() is None and '"arrived"' not in move.target.said():
            assert time.monotonic() < deadline, move.target.said()
            time.sleep(0.02)
        if move.target.child.poll() is None:
            break
        move.stays()
    assert '"event":"kept"' in move.source.said()
    move.arrives(CONTENT)


def target_dies_as_owner(work):
    """The VM is the target's, whose guest died with it: a host's own file is still what it was, also after a restart."""
    move = Move(work, untouched, failpoint="S12:kill")
    move.target.child.wait(PATIENCE)
    for _ in range(2):
        assert move.target.data.read_bytes() == OWN
        move.target = move.start_target()
        assert move.target.child.wait(PATIENCE) > 0, move.target.said()
        assert move.left() == [], move.left()
    kill(move.source)
    move.relay.close()


def source_dies(work):
    move = killed_while_held(work, "source")
    move.relay.close()
    assert move.target.child.wait(PATIENCE) > 0, move.target.said()
    assert move.target.data.read_bytes() == OWN and move.left() == [], move.target.said()
    assert move.source.data.read_bytes() == CONTENT
    again = Peer(move.source.directory, "")
    assert again.child.wait(PATIENCE) > 0, "a VM that is handed over is not started here"
    assert again.data.read_bytes() == CONTENT


def main(work):
    make_package(work)
    for test in (said_again, said_early, said_where_it_does_not_belong, too_long, target_dies, target_dies_with_commit,
                 target_dies_as_owner, source_dies):
        test(work)
        print(f"ok: {test.__name__}", flush=True)


with tempfile.TemporaryDirectory(prefix="drafter-handover-") as directory:
    try:
        main(directory)
    finally:
        Node.end_all()
