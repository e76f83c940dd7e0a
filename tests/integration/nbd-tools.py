#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The NBD server and Debian's clients of NBD: on both kinds of sockets, through nbdkit's filters of faults, and across a kill -9."""

import contextlib
import json
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import nodelab

TOOLS = ("qemu-img", "qemu-io", "nbdinfo", "nbdcopy", "nbdkit")
SIZE = (5 << 20) + 512  # what is no multiple of any block


def run(*words, status=0, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=nodelab.PATIENCE, check=False, **options)
    assert (done.returncode == 0) == (status == 0), (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def content(seed):
    """Bytes with holes, some of them in the middle of a block."""
    rng = random.Random(seed)
    data = bytearray(SIZE)
    for _ in range(9):
        at = rng.randrange(SIZE - (1 << 20))
        data[at : at + (1 << 19)] = rng.randbytes(1 << 19)
    return bytes(data)


class Served:
    """Two devices in a directory, served by a mounter."""

    def __init__(self, root):
        self.directory = pathlib.Path(root)
        self.disk = self.directory / "disk"
        self.data = content(1)
        self.disk.write_bytes(self.data)
        (self.directory / "other").write_bytes(b"other" * 1000)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.socket = f"{root}/run/vm/devices/nbd.sock"
        self.uris = {"unix": f"nbd+unix:///disk?socket={self.socket}", "tcp": f"nbd://127.0.0.1:{port}/disk"}
        self.uri = self.uris["unix"]
        self.text = (f"[exposure:nbd]\nplugin = nbd\nattach = none\nlisten = 127.0.0.1:{port}\n[mounter]\nexposure = nbd\n"
                     + "".join(f"[device:{name}]\nbase = {root}/{name}\n" for name in ("disk", "other")))
        self.start()

    def start(self):
        self.node = nodelab.Node(str(self.directory), "mounter", self.text)
        self.node.wait("mounted")

    def kill(self):
        """And says that the files are good, which only somebody who knows what is in them can."""
        self.node.child.kill()
        self.node.child.wait()
        (self.directory / "vm.ledger").unlink()

    def holds(self, data):
        assert self.disk.read_bytes() == data, "the file is not what clients wrote"
        self.data = data


class Kit:
    """nbdkit between a client and the server, with filters; the first of them is the client's."""

    def __init__(self, served, filters, *words):
        self.socket = served.directory / "kit.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        command = ["nbdkit", "-f", "-U", self.socket, *(f"--filter={name}" for name in filters), "nbd", f"uri={served.uri}", *words]
        self.child = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + nodelab.PATIENCE
        while not self.socket.is_socket():
            assert self.child.poll() is None and time.monotonic() < deadline, self.child.communicate()[1]
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGTERM)

    def end(self, number):
        self.child.send_signal(number)
        self.child.communicate()
        self.socket.unlink(missing_ok=True)


def tools_agree(served):
    """What each client says of the device, on either kind of socket."""
    back = served.directory / "back"
    for kind, uri in served.uris.items():
        info = json.loads(run("qemu-img", "info", "--output=json", "-f", "raw", uri))
        assert info["virtual-size"] == SIZE, info
        export = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
        assert export["export-size"] == SIZE and not export["is_read_only"], export
        for ability in ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn"):
            assert export[ability], (ability, export)
        listed = json.loads(run("nbdinfo", "--list", "--json", uri))["exports"]
        assert {entry["export-name"] for entry in listed} == {"disk", "other"}, listed
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.disk, uri)
        for copy in (("nbdcopy", uri, back), ("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, back)):
            run(*copy)
            assert back.read_bytes() == served.data, copy
        print(f"ok: qemu-img, nbdinfo and nbdcopy read it, {kind}", flush=True)


def tools_write(served):
    """A qcow2 image is converted into it, a file is copied into it, and each byte is in the device's file."""
    wanted, image = served.directory / "wanted", served.directory / "image.qcow2"
    for seed, (kind, uri) in enumerate(served.uris.items(), 2):
        wanted.write_bytes(content(seed))
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", wanted, image)
        run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, uri)
        served.holds(content(seed))
        wanted.write_bytes(content(seed + 10))
        run("nbdcopy", "--flush", wanted, uri)
        served.holds(content(seed + 10))
        run("qemu-io", "-f", "raw", "-c", "write -f -P 0xab 4095 1M", "-c", "discard 64k 128k", "-c", "write -z 512k 64k", "-c", "flush",
            "-c", "read -P 0 512k 64k", "-c", "read -P 0xab 4095 60k", uri)
        served.data = served.disk.read_bytes()
        assert served.data[4095:65536] == b"\xab" * 61441 and not any(served.data[64 << 10 : 192 << 10])
        print(f"ok: qemu-img, nbdcopy and qemu-io write it, {kind}", flush=True)


def nobody_is_disturbed(served):
    run("nbdcopy", served.uri, served.directory / "back")
    assert (served.directory / "back").read_bytes() == served.data


def faults_are_the_clients(served):
    """Errors and delays on the way: with a filter that tries again the copy is whole, without one the client is told; the server goes on."""
    wanted = served.directory / "wanted"
    wanted.write_bytes(content(30))
    with Kit(served, ["error"], "error=ENOSPC", "error-rate=100%") as kit:
        assert "No space" in run("nbdcopy", wanted, kit.uri, status=1)
    nobody_is_disturbed(served)
    broken = served.directory / "broken"
    broken.touch()
    with Kit(served, ["retry-request", "error", "delay"], "error-rate=100%", f"error-file={broken}", "retry-request-delay=1",
             "delay-read=3ms", "delay-write=3ms") as kit:
        copy = subprocess.Popen(["nbdcopy", "--flush", wanted, kit.uri])
        time.sleep(0.2)
        broken.unlink()
        assert copy.wait(nodelab.PATIENCE) == 0, "what failed was tried again"
    served.holds(content(30))
    nobody_is_disturbed(served)
    # Whatever is written through this filter must be there already.
    with Kit(served, ["checkwrite"]) as kit:
        run("nbdcopy", wanted, kit.uri)
    with Kit(served, ["cow", "blocksize"], "maxdata=64k", "maxlen=1M") as kit:
        wanted.write_bytes(content(31))
        run("nbdcopy", wanted, kit.uri)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", wanted, kit.uri)
    served.holds(content(30))
    print("ok: faults between a client and the server are the client's", flush=True)


def in_the_middle(served, kit):
    """A copy of content(40) that is well under way."""
    wanted = served.directory / "wanted"
    wanted.write_bytes(content(40))
    child = subprocess.Popen(["nbdcopy", "--connections=1", "--requests=1", "--request-size=65536", "--flush", wanted, kit.uri],
                             stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + nodelab.PATIENCE
    while served.disk.read_bytes()[: 1 << 20] != content(40)[: 1 << 20]:
        assert child.poll() is None and time.monotonic() < deadline, child.communicate()[1]
        time.sleep(0.02)
    return child


def links_break(served):
    """The client's side is killed: the server serves on.  The server is killed: a client that tries again finds its successor."""
    kit = Kit(served, ["delay"], "delay-write=5ms")
    copy = in_the_middle(served, kit)
    kit.end(signal.SIGKILL)
    copy.communicate()
    assert copy.returncode, "the copy has failed"
    served.data = served.disk.read_bytes()
    nobody_is_disturbed(served)
    served.disk.write_bytes(bytes(SIZE))
    with Kit(served, ["retry", "delay"], "delay-write=5ms", "retries=20", "retry-delay=1", "retry-exponential=no") as kit:
        copy = in_the_middle(served, kit)
        served.kill()
        served.start()
        said = copy.communicate(timeout=nodelab.PATIENCE)[1]
        assert copy.returncode == 0, said
    served.holds(content(40))
    print("ok: a client or a server is killed, and the other goes on", flush=True)


def main():
    for tool in TOOLS:
        if not shutil.which(tool):
            print(f"SKIP: {tool} is not installed")
            return 77
    with tempfile.TemporaryDirectory(prefix="drafter-nbd-") as root, contextlib.ExitStack() as at_end:
        at_end.callback(nodelab.Node.end_all)
        served = Served(root)
        for test in (tools_agree, tools_write, faults_are_the_clients, links_break):
            test(served)
        served.node.stop()
        assert not pathlib.Path(served.socket).exists()
    return 0


sys.exit(main())
