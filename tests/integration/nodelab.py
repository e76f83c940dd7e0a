# SPDX-License-Identifier: BSD-2-Clause
"""drafter processes over the null VMM, for tests that need neither root nor a guest."""

import os
import pathlib
import signal
import subprocess
import time

DEVICES = ("kernel", "state", "memory", "config")
PATIENCE = 60


class Node:
    all = []

    def __init__(self, directory, role, text):
        ini = pathlib.Path(directory, f"{role}.ini")
        ini.write_text(f"[drafter]\nrole = {role}\nstate-directory = {directory}\nrun-directory = {directory}/run\n{text}")
        self.log = open(f"{directory}/{role}.log", "w+")
        drafter = os.environ["DRAFTER"]
        self.child = subprocess.Popen([drafter, "--log-format", "json", "--config", ini], stderr=self.log, cwd=directory)
        Node.all.append(self)

    @classmethod
    def end_all(cls):
        """A test that fails leaves nothing running."""
        for node in cls.all:
            if node.child.poll() is None:
                node.child.kill()
                node.child.wait()

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def wait(self, event):
        deadline = time.monotonic() + PATIENCE
        while f'"event":"{event}"' not in self.said():
            assert self.child.poll() is None and time.monotonic() < deadline, f"no {event}: {self.said()}"
            time.sleep(0.02)

    def memory(self):
        """The most bytes it ever had."""
        lines = pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    def stop(self):
        started = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(PATIENCE)
        assert status == 0, f"status {status}: {self.said()}"
        return time.monotonic() - started


class Peer(Node):
    """One that waits for all of a VM and hands it on; what goes along is in `data`."""

    def __init__(self, directory, more, files=None):
        os.makedirs(directory, exist_ok=True)
        devices = "".join(f"[device:{name}]\nbase = {files or directory}/{name}\n" for name in DEVICES)
        super().__init__(directory, "peer", "[peer]\ntransport = unix\nvmm = null\nexposure = null\nrelink-timeout = 1s\n"
                         f"disable-postcopy-migration = yes\nlisten = {directory}/socket\n{more}{devices}")
        self.directory, self.data = directory, pathlib.Path(directory, "vm.handover")


def make_package(directory):
    kernel = pathlib.Path(directory, "kernel.in")
    kernel.write_text("kernel")
    text = "[snapshotter]\nvmm = null\nmemory-size = 16M\nliveness = no\nagent = no\n"
    for device in DEVICES:
        text += f"[device:{device}]\noutput = {directory}/{device}\n" + (f"input = {kernel}\n" if device == "kernel" else "")
    node = Node(directory, "snapshotter", text)
    assert node.child.wait(PATIENCE) == 0, node.said()


def make_keys(directory, may="pull"):
    """Keys of the node and of its one peer, in node.key and peer.key, and the node's rule for that."""
    for name in ("node", "peer"):
        made = subprocess.run([os.environ["DRAFTER"], "keygen", f"{directory}/{name}"], check=True, capture_output=True, text=True)
    pathlib.Path(directory, "trust.ini").write_text(f"[key:peer]\nidentity = {made.stdout}may = {may}\n")


def start_peer(directory, wait=True, tls=False):
    text = f"[peer]\ntransport = {'safe' if tls else 'unix'}\nvmm = null\nexposure = null\nlisten = {directory}/socket\nrelink-timeout = 1s\n"
    if tls:
        text = (f"trust = {directory}/trust.ini\n[transport:wire]\nplugin = unix\n[transport:safe]\nplugin = tls\nnext = wire\n"
                f"key = {directory}/node.key\ncertificate = {directory}/node.crt\n") + text
    node = Node(directory, "peer", text + "".join(f"[device:{d}]\nbase = {directory}/{d}\n" for d in DEVICES))
    if wait:
        node.wait("listening")
    return node
