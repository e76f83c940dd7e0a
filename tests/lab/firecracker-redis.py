#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A stock Linux kernel with redis in Firecracker: snapshot, start, and moves between two hosts of a slow network.

A client on a third host writes all the while; no acknowledged write may be lost. Agent and liveness come over vsock.
MOVES=N: how often (2); DRAFTER_TEST_JAILER: its jailer, or empty; DRAFTER_TEST_EXPOSURE: how devices are shown; IMAGE: where the guest is. Runs in the lab's guest, or where
/dev/kvm runs a stock kernel at speed.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import drafterlab  # noqa: E402  (its place is only known now)
import firecrackerlab  # noqa: E402
import netlab  # noqa: E402
from drafterlab import check, section  # noqa: E402

IMAGE = pathlib.Path(os.environ["IMAGE"])
DEVICES = ("kernel", "initramfs", "disk", "state", "memory", "config")
SLOT, ADDRESS = "ark2", f"{netlab.SUBNET}.131"
WRITER = drafterlab.TESTS / "tools/drafter-writer"
# The guest's own addresses are those of the image.
NETWORK = section("network:lan", plugin="nftables", slots=4, outside_address="own", host_interface="eth0",
                  namespace_veth_cidr=f"{netlab.SUBNET}.128/28", namespace_interface_ip="10.0.2.15", namespace_interface_gateway="10.0.2.2",
                  namespace_interface_netmask=24, blocked_subnet_cidr="")
SLOW = {"resume_timeout": "4m", "hook_timeout": "1m"}
began = time.monotonic()


def tell(text):
    print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)


class Lab(firecrackerlab.JailedLab, netlab.NetLab):
    jailed = bool(os.environ["DRAFTER_TEST_JAILER"])

    def vmm_section(self, host):
        os.makedirs(self.path(f"jails-{host.name}"), exist_ok=True)
        jail = {"chroot_base_dir": self.path(f"jails-{host.name}")} if self.jailed else {}
        return section("vmm:vm", **{**self.options(), **jail, "timeout": "2m"})

    def exposure(self):
        plugin = os.environ.get("DRAFTER_TEST_EXPOSURE", "fuse")
        return section("exposure:shown", plugin=plugin, allow_other=True if plugin == "fuse" else None)

    def snapshot_linux(self, host):
        self.place("snapshotter", host)
        os.makedirs(self.path("package"))
        arguments = (IMAGE / "boot-args").read_text().strip() + " pci=off heartbeat_us=1000000"
        devices = [section(f"device:{d}", input=IMAGE / d if (IMAGE / d).exists() else None, output=self.path(f"package/{d}"))
                   for d in DEVICES]
        node = self.node("snapshotter", "".join([
            self.drafter_section("snapshotter", "snapshotter"), self.vmm_section(host), NETWORK,
            section("snapshotter", vmm="vm", network="lan", netns=SLOT, memory_size="128M", boot_args=arguments, settle="500ms", **SLOW),
            *devices]))
        check(node.exited(drafterlab.PATIENCE) == 0, f"the guest was alive, and is a package: {node.last_line()}")

    def peer_linux(self, number, host, connect=None):
        name = f"{host.name}{number}"
        self.place(name, host)
        files = self.path(host.name)
        if connect: # what was here has left
            shutil.rmtree(files, ignore_errors=True)
            os.makedirs(files)
        return self.node(name, "".join([
            section("drafter", role="peer", name="vm", run_directory=self.path(f"run/{host.name}"),
                    state_directory=self.path(f"state/{host.name}"), log_level="debug"),
            self.vmm_section(host), NETWORK, self.exposure(),
            section("peer", vmm="vm", exposure="shown", network="lan", netns=SLOT, listen=f"{host.address}:1600", connect=connect,
                    relink_timeout="5s", **SLOW),
            *[section(f"device:{d}", base=f"{files}/{d}") for d in DEVICES]]))


def write(lab, third):
    """A client that writes until it is told to stop; it then verifies."""
    report = open(lab.path("writer.json"), "w+")
    child = lab.spawn([*third.enter, sys.executable, str(WRITER), "--host", ADDRESS, "--ports", "6379", "--journal", lab.path("journal"),
                       "--rate", "20", "--patience", str(drafterlab.PATIENCE)], stdout=report)

    def stop():
        child.send_signal(signal.SIGTERM)
        check(child.wait(drafterlab.PATIENCE) == 0, "no acknowledged write is lost")
        report.seek(0)
        return json.loads(report.read())
    return stop


def answers(lab, third, name):
    lab.eventually(lambda: third.tool("redis", ADDRESS, 6379, "PING", timeout=2) == "PONG", f"redis answers from {name}")


def move(lab, third, number, source, host, there):
    target = lab.peer_linux(number, there, connect=f"{host.address}:1600")
    resumed = target.wait("resumed")
    target.wait("arrived")
    check(source.exited() == 0, f"move {number}: the VM has left {host.name}")
    paused = [m for m in source.messages("info", "debug") if "paused for" in m]
    tell(f"move {number} to {there.name}: {paused[-1:]} {resumed.get('ms', '')}")
    lab.nodes.remove(source)
    answers(lab, third, there.name)
    return target


def test(lab):
    hosts = lab.hosts("a", "b", "c")
    third = hosts[2]
    nats = [lab.nat(f"nat-{host.name}", host, NETWORK) for host in hosts[:2]]
    for host in hosts[:2]:
        host.run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "3ms", "1ms", "rate", "200mbit")
    tell("two hosts, with a network of 3 ms and 200 Mbit/s between them")
    lab.snapshot_linux(hosts[0])
    tell("a package")
    shutil.copytree(lab.path("package"), lab.path("a"))
    node = lab.peer_linux(0, hosts[0])
    node.wait("listening")
    answers(lab, third, "a")
    tell("started from its package")
    stop_writer = write(lab, third)
    time.sleep(5)
    for number in range(1, int(os.environ.get("MOVES", "2")) + 1):
        node = move(lab, third, number, node, *(hosts[:2] if number % 2 else hosts[1::-1]))
        time.sleep(5)
    report = stop_writer()
    tell(f"the writer: {report}")
    check(report["acked"] > 100 and report["lost"] == 0, "it wrote")
    hooks = [m for m in node.messages("warning", "error") if "hook" in m or "agent" in m]
    check(not hooks, f"the agent answers over vsock {hooks or ''}")
    check(node.stop() == 0, "the VM is saved")
    for nat in nats:
        nat.stop()


firecrackerlab.need_firecracker()
netlab.need("tc")
drafterlab.main(test, Lab, qemu=False)
