#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM with redis moves between two hosts of one broadcast domain and back, in slots with the same address outside.
A client on a third host is connected throughout: one connection, every answer right."""

import json
import os
import shutil

import netlab
from drafterlab import check, section

DEVICES = ("kernel", "initramfs", "disk", "state", "memory", "config")
SLOT, ADDRESS = "ark2", f"{netlab.SUBNET}.131"


def network(plugin):
    """The guest's own addresses are those of the image; outside, slots have addresses of the hosts' subnet."""
    return section("network:lan", plugin=plugin, slots=4, outside_address="own", host_interface="eth0", namespace_veth_cidr=f"{netlab.SUBNET}.128/28",
                   namespace_interface_ip="10.0.2.15", namespace_interface_gateway="10.0.2.2", namespace_interface_netmask=24,
                   **{"blocked-subnet-cidr": ""})


def snapshot(lab, host, path, text):
    lab.place("snapshotter", host)
    os.makedirs(lab.path("package"))
    devices = [section(f"device:{d}", input=path / d if (path / d).exists() else None, output=lab.path(f"package/{d}")) for d in DEVICES]
    node = lab.node("snapshotter", "".join([
        lab.drafter_section("snapshotter", "snapshotter"), section("vmm:vm", plugin="qemu", accelerator="tcg"), text,
        section("snapshotter", vmm="vm", network="lan", netns=SLOT, memory_size="256M", boot_args=(path / "boot-args").read_text().strip(),
                resume_timeout="3m", hook_timeout="1m", settle="500ms"), *devices]))
    check(node.exited(240) == 0, "the snapshotter ends well")


def peer(lab, name, host, text, connect=None):
    lab.place(name, host)
    files = lab.path(host.name)
    os.makedirs(files, exist_ok=True)
    devices = [section(f"device:{d}", base=f"{files}/{d}") for d in DEVICES]
    return lab.node(name, "".join([
        section("drafter", role="peer", name="vm", run_directory=lab.path(f"run/{host.name}"), state_directory=lab.path(f"state/{host.name}")),
        section("vmm:vm", plugin="qemu", accelerator="tcg"), text,
        section("peer", vmm="vm", network="lan", netns=SLOT, listen=f"{host.address}:1600", connect=connect, downtime_limit="50ms",
                hook_timeout="1m"), *devices]))


def slot_of(host, nat):
    return next(s for s in host.status(nat.config)["slots"] if s["name"] == SLOT)


def neighbour(third):
    """The MAC that the third host knows the VM's address by."""
    known = json.loads(third.run("ip", "-j", "neigh", "show", ADDRESS) or "[]")
    return known[0].get("lladdr") if known else None


def mac(host):
    return json.loads(host.run("ip", "-j", "link", "show", "eth0"))[0]["address"]


def step(lab, third, source, there, nats, text, number):
    node = peer(lab, f"{there.name}{number}", there, text, connect=f"{source.lab_host.address}:1600")
    node.lab_host = there
    node.wait("resumed")
    check(neighbour(third) == mac(there), "the third host knows at once where the VM is")
    check(slot_of(source.lab_host, nats[source.lab_host.name])["state"] == "claimed" or source.child.poll() is not None,
          "the old host does not answer for it any more")
    node.wait("arrived")
    check(source.exited() == 0, f"the VM has left {source.lab_host.name}")
    check(slot_of(source.lab_host, nats[source.lab_host.name])["state"] == "free", "and its slot there is free")
    check(slot_of(there, nats[there.name])["state"] == "announced", f"it is at {there.name}")
    return node


def outlive(lab, third, node, host, nat):
    """The drafter is killed and started again, then replaced by itself: the VM keeps its slot, and
    its clients their connections; it waits only for devices, which nobody serves in between."""
    check(slot_of(host, nat)["state"] == "announced", "the VM has its slot")
    node.kill()
    seen = slot_of(host, nat)
    check(seen["state"] == "announced" and seen["owner"] == f"vm@{node.child.pid}", f"the slot outlives its drafter: {seen}")
    again = lab.restart(node)
    again.lab_host = host
    again.wait("adopted")
    lab.eventually(lambda: slot_of(host, nat)["owner"] == f"vm@{again.child.pid}", "the slot is the new drafter's")
    host.drafter("reexec", "--config", again.config)
    check(slot_of(host, nat)["state"] == "announced", "and stays so over an upgrade")
    lab.eventually(lambda: third.tool("redis", ADDRESS, 6379, "PING", timeout=1) == "PONG", "the VM answers")
    return again


def move(lab, plugin):
    path = netlab.drafterlab.linux_image()
    a, b, third = lab.hosts("a", "b", "c")
    text = network(plugin)
    nats = {host.name: lab.nat(f"nat-{host.name}", host, text) for host in (a, b)}
    check(slot_of(a, nats["a"])["address"] == ADDRESS, f"the slot has {ADDRESS} outside")
    snapshot(lab, a, path, text)
    check(slot_of(a, nats["a"])["state"] == "free", "and has given its slot back")
    shutil.copytree(lab.path("package"), lab.path("a"))
    node = peer(lab, "a0", a, text)
    node.lab_host = a
    node.wait("listening")
    check(slot_of(a, nats["a"])["owner"] == f"vm@{node.child.pid}", "the VM has its slot")
    lab.eventually(lambda: third.tool("redis", ADDRESS, 6379, "PING", timeout=1) == "PONG", "redis answers a third host")
    holder = third.spawn("python3", netlab.NETTOOL, "hold", ADDRESS, 6379, await_line="connected")
    node = step(lab, third, node, b, nats, text, 1)
    node = step(lab, third, node, a, nats, text, 2)
    check(third.tool("redis", ADDRESS, 6379, "PING") == "PONG", "new connections come to the VM")
    node = outlive(lab, third, node, a, nats["a"])
    lab.eventually(lambda: int(third.tool("redis", ADDRESS, 6379, "GET", "held") or 0) > 100, "the old one is in use")
    holder.terminate()
    report = json.loads(holder.stdout.readline())
    check(report["error"] is None and report["wrong"] == 0, f"the connection lived and every answer was right: {report}")
    check(node.stop() == 0, "the VM is saved")
    check(slot_of(a, nats["a"])["state"] == "free", "and its slot is free")


if __name__ == "__main__":
    netlab.drafterlab.need_host()
    netlab.main(move)
