#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A package whose config is the original's, which does not say what saved it: it runs, moves, is handed out by a registry, and is refused where it must be."""

import pathlib
import tempfile

import nodelab

CONFIG = b'{"agentVSockPort":0}'
PADDING = 2 << 20


def make(root):
    directory = root / "a"
    directory.mkdir()
    nodelab.make_package(str(directory))
    (directory / "config").write_bytes(CONFIG.ljust(PADDING, b"\0"))
    return directory


def node(root, name, options, role="peer", files=None):
    directory = root / name
    directory.mkdir(exist_ok=True)
    text = f"[{role}]\ntransport = unix\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
    return nodelab.Node(str(directory), role, text + "".join(f"[device:{d}]\nbase = {files or directory}/{d}\n" for d in nodelab.DEVICES))


def refused(made, what):
    assert made.child.wait(nodelab.PATIENCE) != 0 and what in made.said(), made.said()


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-original-") as directory:
        root = pathlib.Path(directory)
        package = make(root)
        vm = {"vmm": "null", "exposure": "null"}
        refused(node(root, "b", {**vm, "memory-size": "8M"}, files=package), "another machine")
        refused(node(root, "b", {**vm, "vmm": "qemu"}, files=package), "does not describe the saved machine")
        print("ok: a VMM that cannot do without the description, and a wrong size, are refused", flush=True)
        registry = node(root, "registry", {"listen": root / "registry.sock"}, role="registry", files=package)
        registry.wait("listening")
        copy = node(root, "copy", {**vm, "connect": root / "registry.sock", "disable-postcopy-migration": "yes"})
        copy.wait("arrived")
        copy.stop()
        registry.stop()
        a = node(root, "a", {**vm, "listen": root / "a.sock"})
        a.wait("listening")
        assert "16 MiB" in a.said() and "does not say what saved it" in a.said(), a.said()
        b = node(root, "b", {**vm, "connect": root / "a.sock", "memory-size": "16M", "disable-postcopy-migration": "yes"})
        b.wait("arrived")
        assert a.child.wait(nodelab.PATIENCE) == 0, a.said()
        b.stop()
        again = node(root, "b", vm)
        again.wait("resumed")
        again.stop()
        assert (root / "b/config").read_bytes().startswith(CONFIG + b"\0")
        print("ok: it runs from files, from a registry, and where it moved to", flush=True)


try:
    main()
finally:
    nodelab.Node.end_all()
