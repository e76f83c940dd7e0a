#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every role in a chain, over the null VMM: a package is run, served, mounted, moved, and backed up; kills included."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import nodelab

DRAFTER = os.environ["DRAFTER"]
DEVICES = nodelab.DEVICES
PACKAGE = "redis.tar.zst"
nodes = []


class Host:
    """A directory with files and a state of its own."""

    def __init__(self, root, name):
        self.directory = pathlib.Path(root, name)
        self.directory.mkdir()
        self.socket = self.directory / "socket"

    def file(self, device):
        return self.directory / device

    def run(self, role, options, device):
        """`device` gives the keys of a device."""
        text = f"[{role}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
        for name in DEVICES:
            text += f"[device:{name}]\n" + "".join(f"{key} = {value}\n" for key, value in device(name).items())
        node = nodelab.Node(str(self.directory), role, text)
        nodes.append(node)
        return node

    def packaged(self, package):
        return lambda name: {"storage": "package", "base": package, "overlay": self.file(name + ".overlay"),
                             "state": self.file(name + ".state")}

    def base(self, name):
        return {"base": self.file(name)}

    def output(self, name):
        return {"output": self.file(name)}

    def ledger(self):
        ini = self.directory / "look.ini"
        ini.write_text(f"[drafter]\nstate-directory = {self.directory}\nrun-directory = {self.directory}/run\n")
        done = subprocess.run([DRAFTER, "ownership", "--config", ini, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["state"]


VM = {"vmm": "null", "exposure": "null"}
WIRE = {"transport": "unix"}


def pack(root):
    host = Host(root, "maker")
    nodelab.make_package(str(host.directory))
    files = json.dumps([{"name": name, "path": str(host.file(name))} for name in DEVICES])
    subprocess.run([DRAFTER, "packager", "-devices", files, "-package-path", host.directory / PACKAGE], check=True)
    return host.directory / PACKAGE


def done(node):
    assert node.child.wait(nodelab.PATIENCE) == 0, node.said()


def run_from_package(root, package):
    """A VM runs straight from the package, is stopped, and goes on; the package stays as it is."""
    before = package.read_bytes()
    host = Host(root, "runner")
    for _ in range(2):
        node = host.run("runner", VM, host.packaged(package))
        node.wait("resumed")
        time.sleep(0.2)
        node.stop()
    assert package.read_bytes() == before and host.ledger() == "owned, saved", host.ledger()
    assert host.file("memory.overlay").stat().st_blocks, "what the guest wrote is in the overlay"
    print("ok: a runner runs a package as it is, and goes on where it stopped", flush=True)


def registry_from_package(root, package):
    registry, peer = Host(root, "registry"), Host(root, "peer")
    server = registry.run("registry", {**WIRE, "listen": registry.socket},
                          lambda name: {"storage": "package", "base": package})
    server.wait("listening")
    node = peer.run("peer", {**VM, **WIRE, "connect": registry.socket, "listen": peer.socket,
                             "disable-postcopy-migration": "yes"}, peer.base)
    node.wait("arrived")
    print("ok: a registry serves a package as it is", flush=True)
    return registry, server, peer, node


def mounter_chain(root, registry, server):
    """Devices go from mounter to mounter, as often as wanted; each shows them."""
    first, second, third = (Host(root, name) for name in ("mount1", "mount2", "mount3"))
    options = {**WIRE, "exposure": "null"}
    one = first.run("mounter", {**options, "connect": registry.socket, "listen": first.socket}, first.base)
    one.wait("listening")
    said = one.said()
    assert all(f'"device":"{name}","path":"' in said for name in DEVICES), said
    server.stop()
    for host in (second, third):
        two = host.run("mounter", {**options, "connect": first.socket, "listen": host.socket}, host.base)
        two.wait("listening")
        for name in DEVICES:
            assert host.file(name).read_bytes() == first.file(name).read_bytes(), name
        two.stop()
    one.stop()
    again = first.run("mounter", {**options, "listen": first.socket}, first.base)
    again.wait("listening")
    peer = Host(root, "from-mount")
    node = peer.run("peer", {**VM, **WIRE, "connect": first.socket, "disable-postcopy-migration": "yes"}, peer.base)
    node.wait("arrived")
    node.stop()
    again.stop()
    print("ok: a mounter shows devices and hands them on again and again", flush=True)


def mounted_vm(root, peer, node):
    """A VM that ran goes through a mounter: once, and not twice."""
    mount, last, late = Host(root, "mount-vm"), Host(root, "last"), Host(root, "late")
    one = mount.run("mounter", {**WIRE, "exposure": "null", "connect": peer.socket, "listen": mount.socket}, mount.base)
    one.wait("listening")
    done(node)
    assert peer.ledger() == "relinquished" and mount.ledger() == "owned", (peer.ledger(), mount.ledger())
    two = last.run("peer", {**VM, **WIRE, "connect": mount.socket, "listen": last.socket,
                            "disable-postcopy-migration": "yes"}, last.base)
    two.wait("arrived")
    done(one)
    assert mount.ledger() == "relinquished" and last.ledger() == "owned", (mount.ledger(), last.ledger())
    assert late.run("peer", {**VM, **WIRE, "connect": mount.socket}, late.base).child.wait(nodelab.PATIENCE) in (3, 6)
    print("ok: a VM that goes through a mounter has one owner", flush=True)
    return last, two


def killed_terminators(root, peer, node):
    """Killed at any time a terminator leaves nothing with a final name, and the VM where it was."""
    backup = Host(root, "backup")
    options = {**WIRE, "connect": peer.socket, "relink-timeout": "2s"}
    for pause in (0.0, 0.02, 0.05, 0.1):
        killed = backup.run("terminator", options, backup.output)
        time.sleep(pause)
        killed.child.kill()
        killed.child.wait()
        finals = [name for name in DEVICES if backup.file(name).exists()]
        assert not finals or backup.ledger() in ("owned", "owned, saved"), (finals, backup.ledger())
        if finals:
            break
    if backup.ledger() != "owned, saved":
        assert backup.ledger() == "owned" or node.child.poll() is None, node.said()
        done(backup.run("terminator", options, backup.output))
    assert all(backup.file(name).stat().st_size == peer.file(name).stat().st_size for name in DEVICES)
    assert not list(backup.directory.glob("*.part")) and backup.ledger() == "owned, saved"
    done(node)
    refused = backup.run("terminator", options, backup.output)
    assert refused.child.wait(nodelab.PATIENCE) == 5 and "it exists" in refused.said(), refused.said()
    again = backup.run("runner", VM, lambda name: {"path": backup.file(name)})
    again.wait("resumed")
    again.stop()
    print("ok: a backup is whole or has no name, and it runs", flush=True)


def killed_at_the_end(root, package):
    """A terminator that was killed when all was there needs no second move: the next one gives the names and tells the source."""
    for step in ("S17", "S18"):
        source, backup = Host(root, "given-" + step), Host(root, "ended-" + step)
        giving = source.run("peer", {**VM, **WIRE, "listen": source.socket}, source.packaged(package))
        giving.wait("listening")
        options = {**WIRE, "connect": source.socket, "relink-timeout": "2s"}
        os.environ["DRAFTER_FAILPOINT"] = step + ":kill"
        killed = backup.run("terminator", options, backup.output)
        del os.environ["DRAFTER_FAILPOINT"]
        killed.child.wait(nodelab.PATIENCE)
        assert backup.ledger() == "owned" and all(backup.file(name).exists() for name in DEVICES), killed.said()
        refused = backup.run("runner", VM, lambda name: {"path": backup.file(name)})
        assert refused.child.wait(nodelab.PATIENCE) != 0 and "start the terminator again" in refused.said(), refused.said()
        if step == "S17":  # as if it had been killed while it gave the names
            backup.file("memory").rename(backup.file("memory.part"))
        else:
            done(giving)
        done(backup.run("terminator", options, backup.output))
        assert backup.ledger() == "owned, saved" and not list(backup.directory.glob("*.part")), backup.ledger()
        done(giving)
        again = backup.run("runner", VM, lambda name: {"path": backup.file(name)})
        again.wait("resumed")
        again.stop()
    print("ok: what a killed terminator had is finished by the next one, and its source ends", flush=True)


def guest_that_ran(root, package):
    """What a peer's guest ran with does not go back to its source because a terminator comes next under its name."""
    source, peer = Host(root, "ran-before"), Host(root, "ran")
    giving = source.run("peer", {**VM, **WIRE, "listen": source.socket}, source.packaged(package))
    giving.wait("listening")
    os.environ["DRAFTER_FAILPOINT"] = "S14:kill"
    killed = peer.run("peer", {**VM, **WIRE, "connect": source.socket, "disable-postcopy-migration": "yes"}, peer.base)
    del os.environ["DRAFTER_FAILPOINT"]
    killed.child.wait(nodelab.PATIENCE)
    assert peer.ledger() == "owned, incomplete", (peer.ledger(), killed.said())
    backup = peer.run("terminator", {**WIRE, "connect": source.socket, "relink-timeout": "2s"},
                      lambda name: {"output": peer.file(name + ".copy")})
    assert backup.child.wait(nodelab.PATIENCE) not in (0, 2)
    assert peer.ledger() == "owned, incomplete" and source.ledger() == "relinquished", (peer.ledger(), source.ledger())
    assert giving.child.poll() is None, giving.said()
    giving.child.kill()
    giving.child.wait()
    print("ok: a terminator does not refuse what a peer's guest ran with", flush=True)


def source_that_dies_with_the_last_word(root, package):
    """Its DONE is never heard: who has all of the VM does not wait for that for ever, and hands the VM on."""
    source, peer, last = (Host(root, name + "-silent") for name in ("source", "peer", "last"))
    os.environ["DRAFTER_FAILPOINT"] = "S18:kill"
    giving = source.run("peer", {**VM, **WIRE, "listen": source.socket}, source.packaged(package))
    del os.environ["DRAFTER_FAILPOINT"]
    giving.wait("listening")
    taking = peer.run("peer", {**VM, **WIRE, "connect": source.socket, "listen": peer.socket, "relink-timeout": "1s",
                               "disable-postcopy-migration": "yes"}, peer.base)
    taking.wait("arrived")
    giving.child.wait(nodelab.PATIENCE)
    assert "its source could not be told" in taking.said(), taking.said()
    done(last.run("terminator", {**WIRE, "connect": peer.socket}, last.output))
    done(taking)
    assert (source.ledger(), peer.ledger(), last.ledger()) == ("relinquished", "relinquished", "owned, saved")
    print("ok: a source that dies before it says DONE keeps nobody waiting", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-chain-") as root:
        try:
            package = pack(root)
            run_from_package(root, package)
            registry, server, peer, node = registry_from_package(root, package)
            mounter_chain(root, registry, server)
            last, node = mounted_vm(root, peer, node)
            killed_terminators(root, last, node)
            killed_at_the_end(root, package)
            guest_that_ran(root, package)
            source_that_dies_with_the_last_word(root, package)
        finally:
            for node in nodes:
                if node.child.poll() is None:
                    node.child.kill()
                    node.child.wait()


sys.exit(main())
