#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What does not fit is refused before anything moves: one line, a status, nothing left; the source's guest never notices."""

import contextlib
import json
import os
import shutil
import socket

import drafterlab
from drafterlab import check, refused


def unlike(lab, package, name, change):
    """A copy of the package whose config says something else."""
    directory = lab.path(name)
    shutil.copytree(package, directory)
    path = f"{directory}/config.json"
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        config = json.loads(file.read().rstrip(b"\0"))
    change(config)
    with open(path, "wb") as file:
        file.write(json.dumps(config).encode().ljust(size, b"\0"))
    return directory


def find(config, key):
    """The object that has the key, anywhere in the config."""
    if isinstance(config, dict):
        if key in config:
            return config
        config = list(config.values())
    for value in config if isinstance(config, list) else []:
        if (found := find(value, key)) is not None:
            return found
    return None


def test_offers(lab, package, a):
    print("- another VMM plugin")
    refused(lab.peer("b1", connect=a, vmm={"plugin": "null", "serial": None, "accelerator": None}), "null")
    a.settled()
    print("- more memory than is allowed")
    refused(lab.peer("b2", connect=a, max_size="64M"), "max-size")
    a.settled()
    print("- a device that the destination does not have")
    refused(lab.peer("b3", connect=a, devices={"config": None}), "device config")
    a.settled()
    print("- a device that the source does not have")
    refused(lab.peer("b4", connect=a, extra=drafterlab.section("device:disk", base=lab.path("disk"))), "device disk")
    check(not os.path.exists(lab.path("disk")), "and did not create it")
    a.settled()
    print("- no one there")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused(lab.peer("b5", connect=f"127.0.0.1:{unused.getsockname()[1]}"), "nothing listens")


def test_version(lab, package):
    print("- a VM of another version of the VMM, from a registry")

    def change(config):
        facts = find(config, "version")
        facts["version"] = "1.2.3"

    registry = lab.registry("r", unlike(lab, package, "old", change))
    refused(lab.peer("b6", connect=registry), "1.2.3")
    check(registry.stop() == 0, "the registry ends with 0")


def test_existing_files(lab, a):
    print("- files that are there already")
    os.makedirs(lab.path("b7"))
    precious = f"{lab.path('b7')}/memory.bin"
    with open(precious, "w") as file:
        file.write("precious")
    b = lab.peer("b7", connect=a)
    check(b.exited() > 0, "b7 does not overwrite a file")
    check("overwrite" in b.messages("error")[0], "and says how it would")
    with open(precious) as file:
        check(file.read() == "precious", "the file is what it was")
    check(os.listdir(lab.path("b7")) == ["memory.bin"], "and alone")
    a.settled()


def test_owned_here(lab, package, a):
    print("- a VM that runs or ran here by the same name")
    c = lab.peer("c", package, listen=None)
    c.wait("resumed")
    check(c.stop() == 0, "the other VM was saved")
    again = lab.peer("c", connect=a)  # with overwrite it would
    check(again.exited() > 0, "c does not take it over")
    check("owned here" in again.messages("error")[0], "because it owns one of that name")
    a.settled()


def test_busy(lab, a):
    print("- a source that is handing over already")
    address, _ = lab.link(a, 0, "50m")
    first = lab.peer("b8", connect=address)
    a.wait("leaving", state="copying")
    refused(lab.peer("b9", connect=a), "being handed over")
    check(first.stop() > 0, "the first one was cancelled")
    a.settled()
    check(not os.listdir(first.directory), "and left nothing")


def test_noise(a):
    print("- something that is no peer")
    for noise in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096), b"\0" * 48):
        with a.lab.dial(a.address) as client:
            client.settimeout(10)
            with contextlib.suppress(OSError):  # it may be thrown out in the middle of a word
                client.sendall(noise)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
    check(a.child.poll() is None, "the source still runs")


def test(lab):
    package = lab.package("fill=32 dirty=8 rate=10000 check=1", memory="96M")
    beats = lab.heartbeats("a", "z")
    a = lab.peer("a", package)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    test_offers(lab, package, a)
    test_version(lab, package)
    test_existing_files(lab, a)
    test_owned_here(lab, package, a)
    test_busy(lab, a)
    test_noise(a)
    beats.goes_on("a")
    z = lab.peer("z", connect=a)
    z.wait("arrived")
    beats.goes_on("z")
    report = beats.report()
    check(len(report["switches"]) == 1, "after all that it moves")
    drafterlab.intact(report)


drafterlab.main(test)
