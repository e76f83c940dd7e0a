#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The command lines of the original's two guides with VMs in QEMU: what a guest shows tells what each of them did.

The earlier guide runs the bare-metal guest, which proves its memory; the later one a Linux guest with redis, the agent and
liveness, in slots of a network with ports forwarded.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import drafterlab
import netlab
from drafterlab import check

sys.path.insert(0, str(drafterlab.TESTS / "integration"))
import guidelib  # noqa: E402  (its place is only known now)

WORLD = "wlp0s20f3"  # the guide's interface of the host


class Lab(drafterlab.Lab):
    def serial(self, name):
        """The guest's console is the standard output of what runs it: here one end of a pipe."""
        os.mkfifo(self.path(f"{name}.console"))
        return f"file:{self.path(name)}.console"


class Real(guidelib.Guide):
    vmm = ["--vmm", "qemu", "--accelerator", "tcg"]
    exposure, postcopy = [], []
    slots = True

    def __init__(self, lab):
        self.lab, self.heard, self.lives, self.consoles = lab, {}, [], {}

    def follow(self, *spots):
        self.lives.append(self.lab.heartbeats(*spots))
        for spot in spots:
            self.heard[spot] = self.lives[-1]
            self.consoles[spot] = self.lab.enter_context(open(self.lab.path(f"{spot}.console"), "r+b", buffering=0))

    def console(self, spot):
        return self.consoles[spot]

    def runs(self, spot, slot):
        self.heard[spot].goes_on(spot, 0)

    def blueprint(self, _, path):
        pathlib.Path(path).write_bytes(os.urandom(1 << 20))

    def was_one(self):
        """Every guest noticed nothing, over all its spots."""
        for beats in self.lives:
            self.judge(beats.report())

    def judge(self, report):
        drafterlab.intact(report)


class BareMetal(Real):
    def __init__(self, lab):
        super().__init__(lab)
        words = lab.guest_append("fill=16 dirty=2 rate=1000 check=1").replace("heartbeat_us=3000", "heartbeat_us=1000")
        self.boot = ["--memory-size", "64", "--liveness=no", "--agent=no", "--boot-args", words]
        self.ends = set()

    def blueprint(self, device, path):
        if device == "kernel":
            shutil.copy(self.lab.guest_kernel(), path)
        else:
            super().blueprint(device, path)

    def follow(self, *spots):
        super().follow(*spots)
        self.ends.add(spots[-1])

    def runs(self, spot, slot):
        """At the end of its life it tells of its checks."""
        if spot in self.ends:
            self.heard[spot].verified(spot)
        else:
            super().runs(spot, slot)

    def judge(self, report):
        super().judge(report)
        check(report["chk_ok"] > 0, f"{report['chk_ok']} pages of it were verified")


class Linux(Real):
    files = {**guidelib.Guide.files, "initramfs": "initramfs"}

    def __init__(self, lab, image):
        super().__init__(lab)
        self.image, self.visits, self.resumes, self.ports = image, {}, {}, {}
        # Liveness and the agent are waited for by default.
        self.boot = ["--memory-size", "256", "--boot-args", f"{(image / 'boot-args').read_text().strip()} heartbeat_us=4000"]

    def blueprint(self, device, path):
        if device == "oci":
            super().blueprint(device, path)
        else:
            subprocess.run(["cp", "-L", "--sparse=always", self.image / device, path], check=True)

    def follow(self, *spots):
        super().follow(*spots)
        self.visits[self.lives[-1]] = 0

    def forward(self, *pairs):
        self.ports = {slot: [address for other, address in pairs if other == slot] for slot, _ in pairs}
        forwarder = super().forward(*pairs)
        check(ctl("status", "--name", "forwarder", "--json")["forwards"] == len(pairs), "the forwarder says what it forwards")
        return forwarder

    def runs(self, spot, slot):
        """Redis knows how often it was asked, by whatever address of it, and the agent has run its hook."""
        super().runs(spot, slot)
        life = self.heard[spot]
        self.resumes[spot] = self.resumes.get(spot, 0) + 1
        for address in self.ports[slot]:
            self.visits[life] += 1
            found = redis(address, "INCR", "visits")
            check(found == f":{self.visits[life]}", f"redis of the guest at {spot}, by {address}, remembers: {found}")
        self.lab.eventually(lambda: hooks(life, spot, "after resume") == self.resumes[spot], "its hook has run after the resume")


def hooks(beats, spot, name):
    return sum(event == ["other", spot, "guest:", *name.split()] for event in beats.poll())


def redis(address, *words):
    """What it answers; it may take the guest a while after a resume."""
    host, port = address.split(":")
    with socket.create_connection((host, port), drafterlab.PATIENCE) as client:
        client.sendall((" ".join(words) + "\r\n").encode())
        return client.makefile().readline().strip()


def ctl(*words):
    done = subprocess.run([drafterlab.DRAFTER, "ctl", "--run-directory", "run", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout) if "--json" in words else None


def host():
    """A mount namespace of our own with an empty /run, and the interface of the guide."""
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    subprocess.run(["ip", "link", "add", WORLD, "type", "veth"], check=True)
    subprocess.run(["ip", "addr", "add", "192.168.12.31/24", "dev", WORLD], check=True)
    subprocess.run(["ip", "link", "set", WORLD, "up"], check=True)


def test(lab):
    host()
    os.chdir(lab.dir)
    guidelib.Tool.install()
    lab.callback(os.chdir, "/")
    lab.callback(guidelib.Tool.end_all)
    nat = guidelib.Tool("drafter-nat", "--host-interface", WORLD, "--slots", "2", "--namespace-interface-ip", "10.0.2.15",
                        "--namespace-interface-gateway", "10.0.2.2", "--namespace-interface-netmask", "24").wait("ready")
    try:
        guides(lab)
        check(ctl("status", "--name", "nat", "--json")["slots"] == 2, "the NAT says what it keeps")
        ctl("stop")
        nat.end()
    except Exception:
        guidelib.Tool.print_logs()
        raise


def guides(lab):
    guide = BareMetal(lab)
    guidelib.tour(guide, guidelib.earlier, guidelib.combinations)
    guide.was_one()
    guide = Linux(lab, drafterlab.linux_image())
    guidelib.tour(guide, guidelib.later)
    guide.was_one()


netlab.need()
if "nftables" not in netlab.plugins():
    drafterlab.skip("the network plugin of the command lines' default is not built")
guidelib.isolate("-m")
drafterlab.main(test, Lab)
