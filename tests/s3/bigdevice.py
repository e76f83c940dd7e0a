# SPDX-License-Identifier: BSD-2-Clause
"""1 GiB that is copied to radosgw while it is written: the link is cut, drafter and radosgw are killed, and the copy
goes on where it was; what is there at the end is what was written.  Then objects are lost and damaged.

Started by real-server.py, whose radosgw it gets.  The device is shown by a mounter through FUSE: needs root.
"""

import collections
import hashlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import quote

from nodelab import Node
from proxy import Proxy, make_bucket

SIZE = 1 << 30
BLOCK = 256 << 10
STEP = 64 << 10
PATIENCE = 240


class Relay:
    """The link to the service, which can be cut."""

    def __init__(self, directory, port):
        self.control = f"{directory}/relay"
        program = pathlib.Path(os.environ["abs_top_builddir"], "tests", "relay", "drafter-relay")
        self.child = subprocess.Popen([program, "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{port}", "--control",
                                       self.control], stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline().rsplit(":", 1)[1])

    def say(self, line):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(self.control)
            control.sendall(line.encode() + b"\n")
            answer = control.makefile().readline()
        assert not answer.startswith("error"), answer
        return answer

    def sent(self):
        """Bytes to the service."""
        return json.loads(self.say("stats"))["up"]["bytes_out"]

    def end(self):
        self.child.terminate()
        self.child.wait()
        self.child.stdout.close()


class Disk:
    def __init__(self, lab, relay):
        self.lab, self.relay, self.runs = lab, relay, 0
        self.path = lab / "disk"
        rng = random.Random(5)
        with open(self.path, "wb") as file:  # half of it random, a quarter text, a quarter zeros
            for _ in range(SIZE // (4 << 20)):
                file.write(rng.randbytes(2 << 20))
                file.write((b"some text, and again " * 50000)[:1 << 20])
                file.write(bytes(1 << 20))

    def storage(self, port, more):
        return (f"[storage:disk]\nplugin = s3\nendpoint = http://127.0.0.1:{port}\nbucket = test\nprefix = big/\n"
                f"block-size = {BLOCK}\n{more}")

    def start(self, shared=False):
        """The device itself, or what the bucket has of it."""
        self.runs += 1
        directory = self.lab / f"run{self.runs}"
        directory.mkdir()
        text = "[mounter]\nexposure = fuse\n"
        if shared:
            text += self.storage(self.relay.port, "timeout = 5s\n") + "[device:disk]\nstorage = disk\nshared = yes\n"
        else:
            text += self.storage(self.relay.port, "next = local\ncheck-period = 50ms\n")
            text += f"[storage:local]\nplugin = file\npath = {self.path}\n[device:disk]\nstorage = disk\n"
        node = Node(directory, "mounter", text)
        node.wait("mounted")
        node.shown = re.search(r'"path":"([^"]+)"', node.said())[1]
        return node


class Writer(threading.Thread):
    """Writes here and there until it is told to end."""

    def __init__(self, path, seed):
        super().__init__()
        self.file, self.rng, self.going, self.bytes, self.slowest, self.error = open(path, "r+b", 0), random.Random(seed), True, 0, 0, None
        self.start()

    def run(self):
        try:
            while self.going:
                started = time.monotonic()
                for _ in range(8):
                    os.pwrite(self.file.fileno(), self.rng.randbytes(4096), self.rng.randrange(SIZE >> 12) << 12)
                os.fsync(self.file.fileno())
                self.slowest = max(self.slowest, time.monotonic() - started)
                self.bytes += 8 * 4096
                time.sleep(0.05)
        except OSError as error:
            self.error = error

    def end(self):
        self.going = False
        self.join()
        try:
            self.file.close()
        except OSError:
            pass


def digest(path):
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(4 << 20):
            whole.update(piece)
    return whole.hexdigest()


def wait_until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def cut_off(disk, relay, node):
    """The link is down for 8 s, early in the first copy: nothing of it reaches who writes."""
    writer = Writer(node.shown, 1)
    wait_until("the first 100 MiB", lambda: relay.sent() > 100 << 20)
    relay.say("refuse")
    relay.say("cut")
    time.sleep(8)
    assert writer.error is None and writer.slowest < 2, (writer.error, writer.slowest)
    relay.say("resume")
    before = relay.sent()
    wait_until("the copy goes on", lambda: relay.sent() > before + (50 << 20))
    writer.end()
    print(f"ok: cut off for 8 s at {before >> 20} MiB; who wrote meanwhile waited {writer.slowest * 1000:.0f} ms at most", flush=True)


def kill_node(disk, relay, node):
    """As a host does that loses its power: what the bucket has by then is not sent again."""
    wait_until("400 MiB", lambda: relay.sent() > 400 << 20)
    time.sleep(1.5)  # a commit, which is one a second
    sent = relay.sent()
    node.child.kill()
    node.child.wait()
    subprocess.run(["umount", "-l", pathlib.Path(node.shown).parent], check=True)
    return sent


def kill_server(server, relay, node):
    writer = Writer(node.shown, 2)
    before = relay.sent()
    server.kill_gateway()
    time.sleep(3)
    assert writer.error is None, writer.error
    server.start_gateway()
    wait_until("the copy goes on", lambda: relay.sent() > before + (4 << 20))
    writer.end()
    print("ok: radosgw was killed, and started again: the copy goes on", flush=True)


def finish(disk, node, sent, started):
    ended = time.monotonic()
    node.stop()
    assert "not complete" not in node.said(), node.said()
    again = disk.relay.sent() - sent
    total = disk.relay.sent()
    assert again < 320 << 20, f"{again} of {total} bytes were sent after the kill: what was there, again"
    print(f"ok: the copy is whole after {time.monotonic() - started:.0f} s, of which the end took {time.monotonic() - ended:.1f} s; "
          f"{total >> 20} MiB were sent, {again >> 20} of them after the kill", flush=True)


def compare(disk):
    started = time.monotonic()
    node = disk.start(shared=True)
    got = digest(node.shown)
    took = time.monotonic() - started
    node.stop()
    assert got == digest(disk.path), "the bucket has something else"
    print(f"ok: what the bucket has is what was written; read in {took:.1f} s, {SIZE / took / 1e6:.0f} MB/s", flush=True)


class Bucket(Proxy):
    """Requests of our own, signed; not a handler of anything."""

    def __init__(self):
        pass

    def blocks(self):
        """Random ones, of which any bit counts and there is one version: two are there where a sweep was cut off."""
        names = [name for name, size in self.sizes().items() if name.startswith("big/b/") and size > BLOCK // 2]
        versions = collections.Counter(name.split("-")[0] for name in names)
        return sorted(name for name in names if versions[name.split("-")[0]] == 1)


def lose(disk):
    """One block is gone and one is damaged: both are errors that name the object, and the rest can be read."""
    bucket = Bucket()
    gone, bad = bucket.blocks()[7], bucket.blocks()[300]
    answer, _ = bucket.ask("DELETE", f"/test/{quote(gone)}")
    assert answer.status == 204
    bucket.corrupt(bad)
    node = disk.start(shared=True)
    failed = []
    with open(node.shown, "rb", 0) as file:
        for name in (gone, bad, bucket.blocks()[100]):
            at = int(name.split("/")[2].split("-")[0], 16)
            try:
                os.pread(file.fileno(), 4096, at)
            except OSError:
                failed.append(name)
    node.stop()
    assert failed == [gone, bad], (failed, gone, bad)
    assert re.search(f"{gone}: it is gone", node.said()) and re.search(f"{bad}: its content is not", node.said()), node.said()
    started = time.monotonic()
    node = disk.start()  # the layer compares by its index, and does not know; a write mends a block
    with open(node.shown, "r+b", 0) as file:
        for name in (gone, bad):
            at = int(name.split("/")[2].split("-")[0], 16)
            data = os.pread(file.fileno(), 4096, at)
            os.pwrite(file.fileno(), bytes([data[0] ^ 1]) + data[1:], at)
        os.fsync(file.fileno())
    node.stop()
    compare(disk)
    print(f"ok: a block that is gone and one that is damaged are errors, and mended by the next writes ({time.monotonic() - started:.0f} s)",
          flush=True)


def refused(disk, relay):
    os.environ["AWS_SECRET_ACCESS_KEY"] += "x"
    directory = disk.lab / "refused"
    directory.mkdir()
    node = Node(directory, "mounter", "[mounter]\nexposure = fuse\n" + disk.storage(relay.port, "timeout = 5s\n") +
                "[device:disk]\nstorage = disk\nshared = yes\n")
    assert node.child.wait(30) == 4 and "SignatureDoesNotMatch" in node.said(), node.said()
    os.environ["AWS_SECRET_ACCESS_KEY"] = os.environ["AWS_SECRET_ACCESS_KEY"][:-1]
    print("ok: a wrong key is said", flush=True)


def run(server):
    with tempfile.TemporaryDirectory(prefix="drafter-big-") as name:
        lab = pathlib.Path(name)
        relay = Relay(lab, server.port)
        try:
            make_bucket()
            disk = Disk(lab, relay)
            refused(disk, relay)
            started = time.monotonic()
            node = disk.start()
            cut_off(disk, relay, node)
            sent = kill_node(disk, relay, node)
            node = disk.start()
            kill_server(server, relay, node)
            finish(disk, node, sent, started)
            compare(disk)
            lose(disk)
        finally:
            Node.end_all()
            for shown in lab.glob("run*/run/*/devices"):  # of one that failed
                subprocess.run(["umount", "-q", "-l", shown], check=False)
            relay.end()
