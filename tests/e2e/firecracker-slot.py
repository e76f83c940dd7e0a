#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM in Firecracker has a slot of a network: it is snapshotted in one, and moves into one of another host."""

import os

import drafterlab
import firecrackerlab
import netlab
from drafterlab import check, section

SLOT = "ark1"


class Lab(firecrackerlab.Lab, netlab.NetLab):
    """Firecracker on hosts; a node is on the host that `place` says."""


def boot(lab, host, text):
    """A package of a guest that has a network interface."""
    directory = lab.path("booted")
    os.makedirs(directory)
    lab.place("snapshotter", host)
    devices = [section(f"device:{d}", input=lab.guest_kernel() if d == "kernel" else None,
                       output=f"{directory}/{drafterlab.FILES[d]}") for d in drafterlab.DEVICES]
    node = lab.node("snapshotter", "".join([
        lab.drafter_section("snapshotter", "snapshotter"), section("vmm:vm", **lab.options()), text,
        section("snapshotter", vmm="vm", network="lan", netns=SLOT, memory_size="32M", boot_args=lab.guest_append(firecrackerlab.BUSY),
                liveness=False, agent=False, settle="100ms"), *devices]))
    check(node.exited() == 0, "a VM is snapshotted in a slot")
    return directory


def slot_of(host, nat):
    return next(s for s in host.status(nat.config)["slots"] if s["name"] == SLOT)


def attached(lab, host, node, nat):
    """The VM's process is in the slot's namespace, and has the tap open: there is a carrier."""
    slot = slot_of(host, nat)
    check(slot["owner"] == f"vm@{node.child.pid}", "the VM has its slot")
    carrier = host.run("ip", "netns", "exec", SLOT, "cat", f"/sys/class/net/{slot.get('tap', 'tap0')}/carrier", check=False)
    check(carrier == "1", f"the tap is in use: {carrier!r}")


def move(lab, plugin):
    a, b = lab.hosts("a", "b")
    text = section("network:lan", plugin=plugin, slots=4, host_interface="eth0")
    nats = {host.name: lab.nat(f"nat-{host.name}", host, text) for host in (a, b)}
    package = boot(lab, a, text)
    for name, host in (("first", a), ("second", b)):
        lab.place(name, host)
    beats = lab.heartbeats("first", "second")
    slot = {"network": "lan", "netns": SLOT, "extra": text}
    first = lab.peer("first", package, listen=f"{a.address}:1600", **slot)
    beats.wait("beat", "first", drafterlab.PATIENCE)
    attached(lab, a, first, nats["a"])
    second = lab.peer("second", connect=f"{a.address}:1600", listen=f"{b.address}:1600", **slot)
    second.wait("arrived")
    check(first.exited() == 0, "it has left the first host")
    attached(lab, b, second, nats["b"])
    check(slot_of(a, nats["a"])["state"] == "free", "and its slot there is free")
    beats.wait("beat", "second", drafterlab.PATIENCE)
    check(second.stop() == 0, "the VM is saved")


def main():
    firecrackerlab.need_firecracker()
    netlab.need()
    for plugin in netlab.plugins():
        print(f"== {plugin}", flush=True)
        drafterlab.main(lambda lab, plugin=plugin: move(lab, plugin), Lab, qemu=False)


main()
