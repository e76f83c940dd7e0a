#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The command lines of the original's two guides, in their order, and what they say that each does.

Adapted only in the VMM (null, which has no liveness, no agent and no slot of a network, and whose guest uses a small
part of its memory) and in how files are shown to it.  Addresses are those of the guides, in a network of the test's
own.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 90
RESOURCES = ("state", "memory", "initramfs", "kernel", "disk", "config")
FILES = {"state": "state.bin", "memory": "memory.bin", "kernel": "vmlinux", "disk": "rootfs.ext4",
         "config": "config.json", "oci": "oci.ext4"}
NODE = ["--state-directory", "var", "--run-directory", "run", "--log-format", "json"]
VMM = ["--vmm", "null", "--fill", "4M", "--working-set", "1M", "--verify", "no"]
# Files in place of exposed devices cannot fetch what is missing.
HERE = ["--netns", "", "--exposure", "null", "--disable-postcopy-migration"]


def isolate():
    """Runs this again in a network namespace whose loopback is up, or says that it cannot."""
    if os.environ.get("GUIDES_ISOLATED"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if not shutil.which("unshare") or not shutil.which("ip"):
        print("unshare or ip is missing")
        sys.exit(77)
    words = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if subprocess.run(words + ["true"], stderr=subprocess.DEVNULL).returncode:
        print("no network namespace can be made")
        sys.exit(77)
    os.environ["GUIDES_ISOLATED"] = "1"
    os.execvp(words[0], words + [sys.executable, os.path.abspath(__file__)])


class Tool:
    """A tool of the original, by its name."""
    count = 0
    all = []

    def __init__(self, name, *words):
        Tool.count += 1
        Tool.all.append(self)
        self.words = [f"bin/{name}", *NODE, *words]
        self.log = open(f"log.{Tool.count}", "w+")
        self.child = subprocess.Popen(self.words, stderr=self.log, stdout=self.log, stdin=subprocess.DEVNULL)

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def wait(self, event, count=1):
        deadline = time.monotonic() + PATIENCE
        while self.said().count(f'"event":"{event}"') < count:
            assert self.child.poll() is None, f"{self.words} ended without {event}: {self.said()}"
            assert time.monotonic() < deadline, f"{self.words}: no {event}: {self.said()}"
            time.sleep(0.02)
        return self

    def end(self, status=0):
        found = self.child.wait(PATIENCE)
        assert found == status, f"{self.words}: status {found}: {self.said()}"
        return self.said()

    def interrupt(self):
        self.child.send_signal(signal.SIGINT)
        return self.end()


def run(name, *words, status=0):
    return Tool(name, *words).end(status)


def peer(*words):
    return Tool("drafter-peer", *VMM, *HERE, *words)


def each(what, values):
    """--state-WHAT VALUE --memory-WHAT VALUE ..."""
    return [word for resource, value in zip(RESOURCES, values) for word in (f"--{resource}-{what}", value)]


def addresses(first):
    return [f"localhost:{first + index}" for index in range(len(RESOURCES))]


NOWHERE = [""] * len(RESOURCES)


def content(path):
    return pathlib.Path(path).read_bytes()


# ---- the earlier guide


def earlier(package="earlier"):
    paths = [f"{package}/drafter.drft{resource}" for resource in RESOURCES]
    snapshot = [f"--{r}-input-path=blueprint/drafter.drft{r}" for r in ("initramfs", "kernel", "disk")]
    run("drafter-snapshotter", *VMM, "--netns", "", "--liveness=no", "--agent=no", "--memory-size", "64", *snapshot,
        *each("output-path", paths))
    assert os.path.getsize(paths[1]) > 64 << 20
    config_before = content(paths[5])
    # Packaged, and extracted with --extract appended.
    run("drafter-packager", "--package-path", "redis.drft", *each("path", paths))
    os.mkdir("extracted")
    extracted = [f"extracted/{resource}" for resource in RESOURCES]
    run("drafter-packager", "--package-path", "redis.drft", *each("path", extracted), "--extract")
    assert [content(path) for path in paths] == [content(path) for path in extracted]

    # A registry, a first node from it that seeds again, and a second one that seeds again by default.
    registry = Tool("drafter-registry", *each("path", paths)).wait("listening", 6)
    first = peer("--name", "n1", *each("raddr", addresses(1600))).wait("resumed").wait("listening", 6)
    second = peer("--name", "n2").wait("resumed")
    first.wait("moved").end()
    second.wait("listening", 6)
    registry.interrupt()
    # The third writes the VM into the paths; CTRL-C flushes and stops it.
    third = peer(*each("path", paths)).wait("resumed")
    second.wait("moved").end()
    third.wait("listening", 6)
    assert '"event":"suspended"' in third.interrupt()
    assert content(paths[5]) == config_before
    assert not os.path.exists("out/cache/n1") and not os.path.exists("out/cache/n2")

    # From files, as the first node and a registry; then an ephemeral VM that does not seed.
    first = peer(*each("raddr", NOWHERE), *each("path", paths)).wait("resumed").wait("listening", 6)
    last = peer("--name", "n3", *each("laddr", NOWHERE)).wait("resumed")
    first.wait("moved").end()
    last.wait("arrived")
    said = last.interrupt()
    assert '"event":"discarded"' in said and "listening" not in said, said
    assert not os.path.exists("out/cache/n3")
    assert not os.path.exists("var/n3.ledger")


def refused(words, *messages):
    said = run("drafter-peer", *VMM, *HERE, *words, status=2)
    for message in messages:
        assert message in said, said


def combinations(package="earlier"):
    """The eight of the table: addresses to take from, a path, addresses to be taken at."""
    paths = [f"{package}/drafter.drft{resource}" for resource in RESOURCES]
    copies = [f"copy/{resource}" for resource in RESOURCES]
    taken, seeded = addresses(1700), addresses(1800)
    os.mkdir("copy")

    refused([*each("raddr", NOWHERE), *each("laddr", NOWHERE)], "there is nothing to run")
    refused([*each("raddr", NOWHERE), *each("laddr", seeded)],
            "device state is not supported: it is to be taken at localhost:1800, but it comes from nowhere")

    registry = Tool("drafter-registry", *each("path", paths), *each("laddr", taken)).wait("listening", 6)
    nowhere = each("laddr", NOWHERE)
    # raddr: changes are discarded
    said = peer("--name", "r", *each("raddr", taken), *nowhere).wait("arrived").interrupt()
    assert '"event":"discarded"' in said
    # each address counts
    run("drafter-peer", *VMM, *HERE, "--name", "r", *each("raddr", taken), *nowhere, "--disk-raddr=localhost:1", status=6)
    # raddr and laddr
    source = peer("--name", "rl", *each("raddr", taken), *each("laddr", seeded)).wait("listening", 6)
    # raddr and path: what changed is in the path. The one that runs is taken over.
    keeper = peer(*each("raddr", seeded), *each("path", copies), *nowhere).wait("arrived")
    source.wait("moved").end()
    assert '"event":"suspended"' in keeper.interrupt()
    assert all(os.path.getsize(copy) for copy in copies)
    registry.interrupt()
    # path: written back to it, not seeded; and path and laddr
    said = peer(*each("raddr", NOWHERE), *each("path", copies), *nowhere).wait("resumed").interrupt()
    assert '"event":"suspended"' in said and "listening" not in said, said
    source = peer(*each("raddr", NOWHERE), *each("path", copies), *each("laddr", taken)).wait("listening", 6)
    # raddr, path and laddr
    others = [f"other/{resource}" for resource in RESOURCES]
    os.mkdir("other")
    last = peer(*each("raddr", taken), *each("path", others), *each("laddr", seeded)).wait("listening", 6)
    source.wait("moved").end()
    assert '"event":"suspended"' in last.interrupt()
    # Half of a VM is none.
    refused([*each("path", others), "--kernel-raddr=", "--config-laddr="], "a VM arrives as a whole")


# ---- the later guide


def devices(directory, names=FILES, **more):
    return json.dumps([{"name": name, "base": f"package/{FILES[name]}",
                        "overlay": f"{directory}/overlay/{FILES[name]}", "state": f"{directory}/state/{FILES[name]}",
                        "blockSize": 65536, "expiry": 1000000000, "maxDirtyBlocks": 200, "minCycles": 5,
                        "maxCycles": 20, "cycleThrottle": 500000000, "makeMigratable": True, "shared": False,
                        "sharedbase": False, "s3sync": False, "s3accesskey": "", "s3secretkey": "", "s3endpoint": "",
                        "s3secure": False, "s3bucket": "", "s3concurrency": 0, **more} for name in names])


def listing(directory, *names):
    return json.dumps([{"name": name, "path": f"{directory}/{FILES[name]}"} for name in names])


def packaged(package, directory, *names):
    """A package made of files of a directory, and taken apart in another one, is the same."""
    run("drafter-packager", "--package-path", package, "--devices", listing(directory, *names))
    run("drafter-packager", "--package-path", package, "--extract", "--devices", listing("unpacked", *names))
    for name in names:
        assert content(f"unpacked/{FILES[name]}") == content(f"{directory}/{FILES[name]}"), name


def later():
    packaged("drafteros-oci.tar.zst", "blueprint", "kernel", "disk")
    packaged("oci-valkey.tar.zst", "blueprint", "oci")
    snapshot = []
    for name in ("state", "memory", "kernel", "disk", "config", "oci"):
        device = {"name": name, "output": f"package/{FILES[name]}"}
        if name in ("kernel", "disk", "oci"):
            device["input"] = f"blueprint/{FILES[name]}"
        snapshot.append(device)
    run("drafter-snapshotter", *VMM, "--netns", "", "--liveness=no", "--agent=no", "--memory-size", "64", "--devices",
        json.dumps(snapshot))
    before = {name: content(f"package/{FILES[name]}") for name in FILES}
    packaged("valkey.tar.zst", "package", *FILES)

    # The runner, on a copy here: CTRL-C takes a snapshot, from which it goes on the next time.
    shutil.copytree("package", "own")
    for _ in range(2):
        runner = Tool("drafter-runner", *VMM, *HERE[:4], "--devices", listing("own", *FILES)).wait("resumed")
        assert '"event":"suspended"' in runner.interrupt()
    assert content("own/memory.bin") != before["memory"]
    # Changes go to the overlay, and the package stays as it was.
    for _ in range(2):
        single = peer("--raddr", "", "--laddr", "", "--devices", devices("single")).wait("resumed")
        assert '"event":"suspended"' in single.interrupt()
    # Two independent instances of one package at a time.
    instances = [peer("--raddr", "", "--laddr", "", "--devices", devices(f"instance-{number}")).wait("resumed")
                 for number in range(2)]
    for instance in instances:
        assert '"event":"suspended"' in instance.interrupt()
    # One that can be taken over, and one that takes it over and is the end of the chain.
    source = peer("--raddr", "", "--laddr", "localhost:1337", "--devices", devices("instance-0")).wait("listening")
    target = peer("--raddr", "localhost:1337", "--laddr", "", "--devices", devices("instance-1")).wait("resumed")
    source.wait("moved").end()
    said = target.wait("arrived").interrupt()
    assert '"event":"suspended"' in said and "listening" not in said, said
    assert before == {name: content(f"package/{FILES[name]}") for name in FILES}

    # The registry of the reference, with its default address.
    inputs = [{"name": name, "input": f"package/{FILES[name]}", "blockSize": 65536} for name in FILES]
    registry = Tool("drafter-registry", "--devices", json.dumps(inputs)).wait("listening")
    clone = peer("--raddr", "localhost:1600", "--laddr", "", "--devices", devices("clone")).wait("arrived")
    assert '"event":"suspended"' in clone.interrupt()
    registry.interrupt()


def kept_as_file():
    """A command line and the file that it amounts to say the same."""
    line = ["peer", *VMM, *HERE, *NODE[:4], "--raddr", "", "--laddr", "", "--devices", devices("single")]
    drafter = os.environ["DRAFTER"]
    text = subprocess.run([drafter, "config", *line], check=True, capture_output=True, text=True).stdout
    pathlib.Path("kept.ini").write_text(text)
    again = subprocess.run([drafter, "config", "--config", "kept.ini"], check=True, capture_output=True, text=True).stdout
    assert again == text, f"{text}\n----\n{again}"
    node = Tool("drafter-peer", "--config", "kept.ini").wait("resumed")
    assert '"event":"suspended"' in node.interrupt()


def make_blueprints():
    os.makedirs("blueprint")
    for name in ("initramfs", "kernel", "disk"):
        pathlib.Path(f"blueprint/drafter.drft{name}").write_bytes(os.urandom(300000))
    for name in ("kernel", "disk", "oci"):
        pathlib.Path(f"blueprint/{FILES[name]}").write_bytes(os.urandom(300000))
    os.mkdir("package")
    os.mkdir("unpacked")
    os.mkdir("earlier")
    for instance in ("single", "instance-0", "instance-1", "clone"):
        os.makedirs(f"{instance}/overlay")
        os.makedirs(f"{instance}/state")


def main():
    isolate()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.mkdir("bin")
        for role in ("packager", "peer", "registry", "runner", "snapshotter"):
            os.symlink(os.environ["DRAFTER"], f"bin/drafter-{role}")
        try:
            tour()
        finally:
            for tool in Tool.all:
                if tool.child.poll() is None:
                    tool.child.kill()
                    tool.child.wait()
            os.chdir("/")


def tour():
    make_blueprints()
    for step in (earlier, combinations, later, kept_as_file):
        started = time.monotonic()
        step()
        print(f"{step.__name__}: {time.monotonic() - started:.1f} s", flush=True)


main()
