# SPDX-License-Identifier: BSD-2-Clause
"""The lab with Firecracker in place of QEMU. DRAFTER_TEST_FIRECRACKER and DRAFTER_TEST_JAILER say where they are, if not in PATH."""

import contextlib
import http.client
import json
import os
import shutil
import socket

import drafterlab

BUSY = "fill=2 dirty=1 rate=200 check=1"  # little: without hardware virtualization each instruction is emulated


def find(variable, name):
    return os.environ.get(variable) or shutil.which(name)


def need_firecracker():
    """Skips where there is no Firecracker or nothing for it to run on."""
    if not find("DRAFTER_TEST_FIRECRACKER", "firecracker"):
        drafterlab.skip("firecracker is not in PATH; DRAFTER_TEST_FIRECRACKER can name it")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        drafterlab.skip("/dev/kvm cannot be opened")


def need_jailer():
    if not find("DRAFTER_TEST_JAILER", "jailer"):
        drafterlab.skip("jailer is not in PATH; DRAFTER_TEST_JAILER can name it")
    if os.geteuid():
        drafterlab.skip("a jail needs root")


class Api(http.client.HTTPConnection):
    """Firecracker's, over its socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method, url, **body):
        self.request(method, url, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read().decode()
        if answer.status != 204:
            raise drafterlab.Failure(f"Firecracker refuses {method} {url}: {text}")


class Lab(drafterlab.Lab):
    jailed = False

    def guest_kernel(self):
        return super().guest_kernel().replace("testguest-pvh", "testguest-fc")

    def serial(self, name):
        path = self.path(f"{name}.fifo")
        if not os.path.exists(path):
            os.mkfifo(path)
        return f"file:{path}"

    def options(self):
        """Of the VMM's section; a Firecracker of a jail runs as nobody."""
        jail = {"jailer_bin": find("DRAFTER_TEST_JAILER", "jailer"), "uid": 65534, "gid": 65534,
                "chroot_base_dir": self.path("jails")} if self.jailed else {}
        return {"plugin": "firecracker", "accelerator": None,
                "firecracker_bin": find("DRAFTER_TEST_FIRECRACKER", "firecracker"), **jail}

    def snapshot(self, words, *more, vmm=None, **options):
        return super().snapshot(words, *more, vmm={**self.options(), **(vmm or {})}, **options)

    def peer(self, name, *more, vmm=None, extra="", **options):
        fifo = self.serial(name).removeprefix("file:")
        if self.jailed and os.environ.get("DRAFTER_TEST_EXPOSURE", "fuse") == "fuse":
            extra += drafterlab.section("exposure:shown", plugin="fuse", allow_other=True)
            options["exposure"] = "shown"
        return super().peer(name, *more, vmm={**self.options(), "serial": fifo, **(vmm or {})}, extra=extra, **options)

    def processes(self):
        found = super().processes()
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd").startswith(str(self.dir)):
                    found.append(f"{entry}: {os.readlink(f'/proc/{entry}/cwd')}/")
        return found


class JailedLab(Lab):
    jailed = True

    def jails(self):
        return [str(path) for path in self.dir.glob("jails/*/*/root")]


def main(test, make_lab=Lab):
    need_firecracker()
    drafterlab.main(test, make_lab, qemu=False)
