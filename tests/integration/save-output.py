#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM whose state and memory are saved to files of their own, as by --experimental-map-private-..-output: what it ran from stays as it was."""

import hashlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import nodelab

OUTPUTS = ("state", "memory")


def digests(directory):
    return [hashlib.sha256((directory / device).read_bytes()).digest() for device in nodelab.DEVICES]


def files(package, outputs=None, disk=None):
    text = ""
    for device in nodelab.DEVICES:
        text += f"[device:{device}]\nbase = {package / device}\n"
        if outputs and device in OUTPUTS:
            text += f"save-output = {outputs}/{device}\n"
    return text + (f"[device:disk]\nbase = {disk}\n" if disk else "")


def runner(directory, text):
    node = nodelab.Node(str(directory), "runner", "[runner]\nvmm = vm\nexposure = null\n[vmm:vm]\nplugin = null\ndirty-rate = 200\n"
                        "verify = load\n" + text)
    return node


def ran(node):
    node.wait("resumed")
    time.sleep(0.05)
    node.stop()


def refused(node, what):
    assert node.child.wait(nodelab.PATIENCE) != 0 and what in node.said(), node.said()


def saved_elsewhere(root, package, before):
    out = root / "out"
    out.mkdir()
    for _ in range(2):  # what it ran from can be started again
        ran(runner(root, files(package, out)))
        assert digests(package) == before, "what it ran from has changed"
        assert sorted(path.name for path in out.iterdir()) == ["memory", "state"], list(out.iterdir())
        assert (out / "memory").read_bytes() != (package / "memory").read_bytes()
        assert (out / "memory").stat().st_size == (package / "memory").stat().st_size
    for device in ("kernel", "config"):
        os.link(package / device, out / device)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    ran(runner(elsewhere, files(out)))
    print("ok: the outputs are the VM as it was saved, its own files the one it started from", flush=True)


def killed(root, package, before):
    """Nothing but leftovers, which the next start removes."""
    home, out = root / "killed", root / "killed-out"
    home.mkdir()
    out.mkdir()
    node = runner(home, files(package, out))
    node.wait("resumed")
    time.sleep(0.05)
    node.child.kill()
    node.child.wait()
    assert digests(package) == before and (out / "memory.private").exists()
    refused(runner(home, files(package, out)), "was not saved")
    (home / "vm.ledger").unlink()
    ran(runner(home, files(package, out)))
    assert sorted(path.name for path in out.iterdir()) == ["memory", "state"], list(out.iterdir())
    print("ok: a killed one leaves what it ran from alone", flush=True)


def with_a_disk(root, made):
    """A disk that is changed in place belongs to the outputs from then on."""
    home, out, disk = root / "disks", root / "disks-out", root / "disk"
    for directory in (home, out):
        directory.mkdir()
    package = root / "with-disk"
    package.mkdir()
    disk.write_bytes(bytes(4 << 20))
    text = "[snapshotter]\nvmm = null\nmemory-size = 16M\nliveness = no\nagent = no\n"
    for device in nodelab.DEVICES:
        text += f"[device:{device}]\noutput = {package}/{device}\n" + (f"input = {made}/kernel.in\n" if device == "kernel" else "")
    text += f"[device:disk]\ninput = {disk}\noutput = {package}/disk\n"
    node = nodelab.Node(str(home), "snapshotter", text)
    assert node.child.wait(nodelab.PATIENCE) == 0, node.said()
    ran(runner(home, files(package, out, package / "disk")))
    refused(runner(home, files(package, out, package / "disk")), "do not belong together")
    for device in ("kernel", "config", "disk"):
        os.link(package / device, out / device)
    again = root / "again"
    again.mkdir()
    ran(runner(again, files(out, disk=out / "disk")))
    print("ok: with a disk of its own, the outputs are the VM and its old files are none", flush=True)


def command_line(root, package, before):
    """The flags of the original's runner."""
    out = root / "flags"
    words = [os.environ["DRAFTER"], "runner", "--vmm", "null", "--exposure", "null", "--netns", "", "--state-directory", root / "s",
             "--run-directory", root / "r", "-experimental-map-private", "-experimental-map-private-state-output", out / "state",
             "-experimental-map-private-memory-output", out / "memory", "-devices",
             "[" + ",".join(f'{{"name":"{d}","path":"{package}/{d}"}}' for d in nodelab.DEVICES) + "]"]
    with subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True) as child:
        said = ""
        for line in child.stderr:
            said += line
            if "resumed" in line:
                child.send_signal(signal.SIGINT)
    assert child.returncode == 0, said
    assert digests(package) == before and (out / "memory").exists(), said
    print("ok: the original's flags mean that", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-private-") as directory:
        root = pathlib.Path(directory)
        package = root / "package"
        package.mkdir()
        nodelab.make_package(str(package))
        before = digests(package)
        saved_elsewhere(root, package, before)
        killed(root, package, before)
        with_a_disk(root, package)
        command_line(root, package, before)


try:
    main()
finally:
    nodelab.Node.end_all()
