#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A disk that fails under a Linux guest with redis: the guest hears of it, nothing that failed is acknowledged, a VM
whose storage fails is not handed over, and goes on running where it is."""

import os
import pathlib
import shlex
import signal
import socket
import subprocess

import drafterlab
from drafterlab import check, section

DEVICES = ("kernel", "initramfs", "disk", "state", "memory", "config")


def build_plugin(lab):
    """The faulty storage, as third parties build plugins."""
    top, directory = drafterlab.TESTS.parent, lab.path("plugins")
    os.makedirs(directory, mode=0o755)
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-fPIC", "-shared", "-I", f"{top}/core/include",
                    "-o", f"{directory}/drafter-storage-faulty.so", f"{top}/tests/plugins/storage-faulty.c"], check=True)
    os.chmod(directory, 0o755)
    os.environ["DRAFTER_PLUGIN_PATH"] += f":{directory}"


def snapshot(lab, path):
    os.makedirs(lab.path("package"))
    devices = [section(f"device:{d}", input=path / d if (path / d).exists() else None, output=lab.path(f"package/{d}")) for d in DEVICES]
    node = lab.node("snapshotter", "".join([
        lab.drafter_section("snapshotter", "snapshotter"), section("vmm:vm", plugin="qemu", accelerator="tcg"),
        section("snapshotter", vmm="vm", memory_size="256M", boot_args=(path / "boot-args").read_text().strip(),
                resume_timeout="3m", hook_timeout="1m", settle="500ms"), *devices]))
    check(node.exited(240) == 0, "there is a package")


class Guest:
    """A peer whose disk fails when `fail` says so."""

    def __init__(self, lab, name, files=None, connect=None):
        self.port, self.switch = lab.free_port(), lab.path(f"{name}.switch")
        directory = lab.path(name)
        os.makedirs(directory)
        if files:
            subprocess.run(["cp", "--sparse=always", *(f"{files}/{d}" for d in DEVICES), directory], check=True)
        devices = [section(f"device:{d}", base=f"{directory}/{d}") for d in DEVICES if d != "disk" or connect]
        if not connect:
            devices += [section("storage:medium", plugin="file", path=f"{directory}/disk"),
                        section("storage:faulty", plugin="faulty", next="medium", switch=self.switch),
                        section("device:disk", storage="faulty")]
        self.node = lab.node(name, "".join([
            lab.drafter_section(name, "peer"),
            section("vmm:vm", plugin="qemu", accelerator="tcg", forward=f"tcp:127.0.0.1:{self.port}-:6379"),
            section("peer", vmm="vm", listen="127.0.0.1:0", connect=connect.node.address if connect else None, hook_timeout="1m",
                    relink_timeout="2s"), *devices]))

    def fail(self, what):
        pathlib.Path(self.switch).write_text(what)

    def redis(self, *words):
        """The answer, or None when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.settimeout(5)
                connection.sendall((" ".join(words) + "\r\n").encode())
                return connection.recv(4096).decode().strip()
        except OSError:
            return None

    def runs(self):
        """Reads are answered whatever happened to the disk; a PING is not."""
        return (self.redis("GET", "before") or "").startswith("$")


def writes_fail(lab, a, what):
    """From an error on, redis acknowledges nothing: its file is not what it should be."""
    check(a.redis("SET", "before", what) == "+OK", "the guest writes")
    a.fail(what)
    lab.eventually(lambda: (a.redis("SET", "after", what) or "").startswith("-MISCONF"), f"a {what} that fails reaches redis as an error")
    answer = a.redis("SET", "again", what)
    print(answer)
    check("rror" in answer, "which says so")
    check(a.redis("GET", "before") == f"${len(what)}\r\n{what}", "the guest runs on")


def stays(lab, a, name, *words):
    b = Guest(lab, name, connect=a)
    check(b.node.exited() != 0, "it is not handed over")
    a.node.settled()
    said = " / ".join(a.node.messages("warning", "error"))
    check(any(word in said for word in words), f"for that reason: {said[-300:]}")
    check(a.runs(), "and runs where it was")


def end(lab, guest):
    """It can no longer be saved."""
    os.kill(lab.vmm(guest.node.name), signal.SIGKILL)
    check(guest.node.exited() != 0, "a VM that dies is no success")


def test(lab):
    path = drafterlab.linux_image()
    build_plugin(lab)
    snapshot(lab, path)

    a = Guest(lab, "a", lab.path("package"))
    a.node.wait("listening")
    lab.eventually(lambda: a.redis("PING") == "+PONG", "redis answers")
    a.fail("read")
    stays(lab, a, "b0", "Input/output error")
    a.fail("")
    writes_fail(lab, a, "write")
    stays(lab, a, "b1", "its storage failed", "Input/output error")
    end(lab, a)

    a = Guest(lab, "c", lab.path("package"))
    a.node.wait("listening")
    lab.eventually(lambda: a.redis("PING") == "+PONG", "redis answers")
    writes_fail(lab, a, "flush")
    a.fail("")
    stays(lab, a, "d", "its storage failed", "could not transfer the device state")
    a.node.child.terminate()
    lab.eventually(lambda: any("could not be saved and runs on" in m for m in a.node.messages("error")),
                   "a flush that failed once is no acknowledgement later: the VM is not saved either")
    check(not a.node.find("suspended"), "and nobody says that it was")
    check(a.runs(), "it runs on")
    end(lab, a)


drafterlab.need_host()
drafterlab.main(test)
