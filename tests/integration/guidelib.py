# SPDX-License-Identifier: BSD-2-Clause
"""The command lines of the original's two guides, in their order, and what they say that each does.

A Guide says over what they are run.  Their addresses are those of the guides, in a network of the test's own: isolate().
"""

import filecmp
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

PATIENCE = 90
RESOURCES = ("state", "memory", "initramfs", "kernel", "disk", "config")
NOWHERE = [""] * len(RESOURCES)
ROLES = ("forwarder", "mounter", "nat", "packager", "peer", "registry", "runner", "snapshotter", "terminator")
NODE = ["--state-directory", "var", "--run-directory", "run", "--log-format", "json"]


def isolate(*namespaces):
    """Runs this again in a network namespace whose loopback is up, or says that it cannot; `namespaces`: more of them."""
    if os.environ.get("GUIDES_ISOLATED"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if not shutil.which("unshare") or not shutil.which("ip"):
        print("unshare or ip is missing")
        sys.exit(77)
    words = ["unshare", "-n" if os.geteuid() == 0 else "-rn", *namespaces]
    if subprocess.run([*words, "true"], stderr=subprocess.DEVNULL).returncode:
        print("no network namespace can be made")
        sys.exit(77)
    os.environ["GUIDES_ISOLATED"] = "1"
    os.execvp(words[0], words + [sys.executable, os.path.abspath(sys.argv[0])])


class Tool:
    """A tool of the original, by its name."""
    all = []

    def __init__(self, name, *words, console=None):
        Tool.all.append(self)
        self.words = [f"bin/{name}", *NODE, *words]
        self.log = open(f"log.{len(Tool.all)}", "w+")
        self.child = subprocess.Popen(self.words, stderr=self.log, stdout=console or self.log, stdin=subprocess.DEVNULL)

    @staticmethod
    def install():
        os.mkdir("bin")
        for role in ROLES:
            os.symlink(os.environ["DRAFTER"], f"bin/drafter-{role}")

    @classmethod
    def end_all(cls):
        """A test that fails leaves nothing running."""
        for tool in cls.all:
            if tool.child.poll() is None:
                tool.child.kill()
                tool.child.wait()
            tool.log.close()

    @classmethod
    def print_logs(cls):
        for tool in cls.all:
            print(f"--- {' '.join(tool.words)[:200]}\n{tool.said()[-4000:]}", flush=True)

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

    def saved(self):
        """CTRL-C, on which it saves the VM."""
        said = self.interrupt()
        assert '"event":"suspended"' in said, said
        return said


def run(name, *words, status=0):
    return Tool(name, *words).end(status)


class Guide:
    """The null VMM, which has no liveness, no agent and no slot of a network, and whose guest uses a small part of its memory.
    What a spot is: where the guest is heard of that runs there."""
    files = {"state": "state.bin", "memory": "memory.bin", "kernel": "vmlinux", "disk": "rootfs.ext4",
             "config": "config.json", "oci": "oci.ext4"}
    vmm = ["--vmm", "null", "--fill", "4M", "--working-set", "1M", "--verify", "no"]
    boot = ["--memory-size", "64", "--liveness=no", "--agent=no"]
    exposure = ["--exposure", "null"]
    postcopy = ["--disable-postcopy-migration"]  # files in place of exposed devices cannot fetch what is missing
    slots = False

    def blueprint(self, _, path):
        """Makes a file to start from, of a device."""
        pathlib.Path(path).write_bytes(os.urandom(300000))

    def follow(self, *spots):
        """From here on it is one guest that runs at these, from one to the next."""

    def console(self, _):
        """Where the guest's console goes that runs there, or None."""
        return None

    def runs(self, spot, slot):
        """Says that the guest runs there, and that it is the one that it was."""

    def forward(self, *pairs):
        """Ports of slots at addresses of the host."""
        if not self.slots:
            return None
        forwards = [{"netns": f"ark{slot}", "internalPort": "6379", "protocol": "tcp", "externalAddr": address}
                    for slot, address in pairs]
        return Tool("drafter-forwarder", "--port-forwards", json.dumps(forwards)).wait("forwarding")

    # The rest is the same for all.

    def vm(self, slot):
        return [*self.vmm, "--netns", f"ark{slot}" if self.slots else ""]

    def snapshotter(self, *words):
        run("drafter-snapshotter", *self.vm(0), *self.boot, *words)

    def resumed(self, name, spot, slot, *words):
        tool = Tool(name, *self.vm(slot), *self.exposure, *words, console=self.console(spot)).wait("resumed")
        self.runs(spot, slot)
        return tool

    def peer(self, spot, *words, slot=0):
        return self.resumed("drafter-peer", spot, slot, *self.postcopy, *words)

    def runner(self, spot, *words):
        return self.resumed("drafter-runner", spot, 0, *words)

    def fails(self, words, *messages, status=2):
        said = run("drafter-peer", *self.vm(0), *self.exposure, *self.postcopy, *words, status=status)
        for message in messages:
            assert message in said, said

    def listing(self, directory, key, *names, **more):
        return json.dumps([{"name": name, key: f"{directory}/{self.files[name]}", **more} for name in names or self.files])

    def devices(self, directory):
        return json.dumps([{"name": name, "base": f"package/{file}",
                            "overlay": f"{directory}/overlay/{file}", "state": f"{directory}/state/{file}",
                            "blockSize": 65536, "expiry": 1000000000, "maxDirtyBlocks": 200, "minCycles": 5,
                            "maxCycles": 20, "cycleThrottle": 500000000, "makeMigratable": True, "shared": False,
                            "sharedbase": False, "s3sync": False, "s3accesskey": "", "s3secretkey": "", "s3endpoint": "",
                            "s3secure": False, "s3bucket": "", "s3concurrency": 0} for name, file in self.files.items()])


def each(what, values):
    """--state-WHAT VALUE --memory-WHAT VALUE ..."""
    return [word for resource, value in zip(RESOURCES, values) for word in (f"--{resource}-{what}", value)]


def addresses(first):
    return [f"localhost:{first + index}" for index in range(len(RESOURCES))]


def content(path):
    return pathlib.Path(path).read_bytes()


def same(one, other, names):
    for name in names:
        assert filecmp.cmp(f"{one}/{name}", f"{other}/{name}", shallow=False), f"{name} of {other} is not that of {one}"


# ---- the earlier guide


def earlier(guide, package="earlier"):
    files = [f"drafter.drft{resource}" for resource in RESOURCES]
    paths = [f"{package}/{file}" for file in files]
    for directory in ("blueprint", package, "extracted"):
        os.makedirs(directory, exist_ok=True)
    for resource in ("initramfs", "kernel", "disk"):
        guide.blueprint(resource, f"blueprint/drafter.drft{resource}")
    snapshot = [f"--{r}-input-path=blueprint/drafter.drft{r}" for r in ("initramfs", "kernel", "disk")]
    guide.snapshotter(*snapshot, *each("output-path", paths))
    assert os.path.getsize(paths[1]) >= 64 << 20
    config_before = content(paths[5])
    # Packaged, and extracted with --extract appended.
    run("drafter-packager", "--package-path", "redis.drft", *each("path", paths))
    run("drafter-packager", "--package-path", "redis.drft", *each("path", [f"extracted/{file}" for file in files]), "--extract")
    same(package, "extracted", files)

    # A registry, a first node from it that seeds again, and a second one that seeds again by default.
    guide.follow("n1", "n2", "keeper", "seeder", "n3")
    registry = Tool("drafter-registry", *each("path", paths)).wait("listening", 6)
    first = guide.peer("n1", "--name", "n1", *each("raddr", addresses(1600))).wait("listening", 6)
    second = guide.peer("n2", "--name", "n2", slot=1)
    first.wait("moved").end()
    second.wait("listening", 6)
    registry.interrupt()
    # The third writes the VM into the paths; CTRL-C flushes and stops it.
    third = guide.peer("keeper", *each("path", paths))
    second.wait("moved").end()
    third.wait("listening", 6).saved()
    assert content(paths[5]) == config_before
    assert not os.path.exists("out/cache/n1") and not os.path.exists("out/cache/n2")

    # From files, as the first node and a registry; then an ephemeral VM that does not seed.
    first = guide.peer("seeder", *each("raddr", NOWHERE), *each("path", paths)).wait("listening", 6)
    last = guide.peer("n3", "--name", "n3", *each("laddr", NOWHERE), slot=1)
    first.wait("moved").end()
    last.wait("arrived")
    said = last.interrupt()
    assert '"event":"discarded"' in said and "listening" not in said, said
    assert not os.path.exists("out/cache/n3")
    assert not os.path.exists("var/n3.ledger")


def combinations(guide, package="earlier"):
    """The eight of the table: addresses to take from, a path, addresses to be taken at."""
    paths = [f"{package}/drafter.drft{resource}" for resource in RESOURCES]
    copies = [f"copy/{resource}" for resource in RESOURCES]
    taken, seeded, nowhere = addresses(1700), addresses(1800), each("laddr", NOWHERE)
    os.mkdir("copy")

    guide.fails([*each("raddr", NOWHERE), *nowhere], "there is nothing to run")
    guide.fails([*each("raddr", NOWHERE), *each("laddr", seeded)],
                "device state is not supported: it is to be taken at localhost:1800, but it comes from nowhere")

    registry = Tool("drafter-registry", *each("path", paths), *each("laddr", taken)).wait("listening", 6)
    # raddr: changes are discarded
    guide.follow("ephemeral")
    said = guide.peer("ephemeral", "--name", "r", *each("raddr", taken), *nowhere).wait("arrived").interrupt()
    assert '"event":"discarded"' in said
    # each address counts
    guide.fails(["--name", "r", *each("raddr", taken), *nowhere, "--disk-raddr=localhost:1"], status=6)
    # raddr and laddr
    guide.follow("rl", "rp", "p", "pl", "rpl")
    source = guide.peer("rl", "--name", "rl", *each("raddr", taken), *each("laddr", seeded)).wait("listening", 6)
    # raddr and path: what changed is in the path. The one that runs is taken over.
    keeper = guide.peer("rp", *each("raddr", seeded), *each("path", copies), *nowhere, slot=1).wait("arrived")
    source.wait("moved").end()
    keeper.saved()
    assert all(os.path.getsize(copy) for copy in copies)
    registry.interrupt()
    # path: written back to it, not seeded; and path and laddr
    said = guide.peer("p", *each("raddr", NOWHERE), *each("path", copies), *nowhere).saved()
    assert "listening" not in said, said
    source = guide.peer("pl", *each("raddr", NOWHERE), *each("path", copies), *each("laddr", taken)).wait("listening", 6)
    # raddr, path and laddr
    others = [f"other/{resource}" for resource in RESOURCES]
    os.mkdir("other")
    last = guide.peer("rpl", *each("raddr", taken), *each("path", others), *each("laddr", seeded), slot=1).wait("listening", 6)
    source.wait("moved").end()
    last.saved()
    # Half of a VM is none.
    guide.fails([*each("path", others), "--kernel-raddr=", "--config-laddr="], "a VM arrives as a whole")


# ---- the later guide


def packaged(guide, package, directory, *names):
    """A package made of files of a directory, and taken apart in another one, is the same."""
    run("drafter-packager", "--package-path", package, "--devices", guide.listing(directory, "path", *names))
    run("drafter-packager", "--package-path", package, "--extract", "--devices", guide.listing("unpacked", "path", *names))
    same(directory, "unpacked", [guide.files[name] for name in names or guide.files])


def blueprints(guide):
    """Two packages, of the system and of what it runs; and the snapshot of both."""
    for directory in ("blueprint", "package", "unpacked"):
        os.makedirs(directory, exist_ok=True)
    made = [name for name in guide.files if name not in ("state", "memory", "config")]
    for name in made:
        guide.blueprint(name, f"blueprint/{guide.files[name]}")
    packaged(guide, "drafteros-oci.tar.zst", "blueprint", *[name for name in made if name != "oci"])
    packaged(guide, "oci-valkey.tar.zst", "blueprint", "oci")
    snapshot = json.loads(guide.listing("package", "output"))
    for device in snapshot:
        if device["name"] in made:
            device["input"] = f"blueprint/{guide.files[device['name']]}"
    guide.snapshotter("--devices", json.dumps(snapshot))
    packaged(guide, "valkey.tar.zst", "package")


def later(guide):
    blueprints(guide)
    files = guide.files.values()
    for instance in ("single", "instance-0", "instance-1", "clone", "mounted", "second"):
        os.makedirs(f"{instance}/overlay")
        os.makedirs(f"{instance}/state")

    # The runner, on a copy here: CTRL-C takes a snapshot, from which it goes on the next time.
    subprocess.run(["cp", "-r", "--sparse=always", "package", "own"], check=True)
    forwards = guide.forward((0, "127.0.0.1:3333"), (0, "192.168.12.31:3333"))
    guide.follow("runner")
    for _ in range(2):
        guide.runner("runner", "--devices", guide.listing("own", "path")).saved()
    assert not filecmp.cmp("own/memory.bin", "package/memory.bin", shallow=False)
    # Changes go to the overlay, and the package stays as it was.
    guide.follow("single")
    for _ in range(2):
        guide.peer("single", "--raddr", "", "--laddr", "", "--devices", guide.devices("single")).saved()
    if forwards:
        forwards.interrupt()
    moves(guide)
    same("unpacked", "package", files)
    distribution(guide)


def moves(guide):
    # Two independent instances of one package at a time.
    forwards = guide.forward((0, "127.0.0.1:3333"), (1, "127.0.0.1:4444"))
    guide.follow("instance-0", "instance-1-again")
    guide.follow("instance-1")
    instances = [guide.peer(f"instance-{number}", "--raddr", "", "--laddr", "", "--devices",
                            guide.devices(f"instance-{number}"), slot=number) for number in range(2)]
    for instance in instances:
        instance.saved()
    # One that can be taken over, and one that takes it over and is the end of the chain.
    source = guide.peer("instance-0", "--raddr", "", "--laddr", "localhost:1337", "--devices", guide.devices("instance-0"))
    source.wait("listening")
    target = guide.peer("instance-1-again", "--raddr", "localhost:1337", "--laddr", "", "--devices",
                        guide.devices("instance-1"), slot=1)
    source.wait("moved").end()
    said = target.wait("arrived").saved()
    assert "listening" not in said, said
    if forwards:
        forwards.interrupt()


def distribution(guide):
    """The registry of the reference, with its default address, and the mounter and the terminator."""
    files = guide.files.values()
    forwards = guide.forward((0, "127.0.0.1:3333"))
    registry = Tool("drafter-registry", "--devices", guide.listing("package", "input", blockSize=65536)).wait("listening")
    mounter = Tool("drafter-mounter", *guide.exposure, "--raddr", "localhost:1600", "--laddr", "localhost:1338", "--devices",
                   guide.devices("mounted")).wait("listening")
    guide.follow("clone", "backup")
    clone = guide.peer("clone", "--raddr", "localhost:1600", "--devices", guide.devices("clone")).wait("listening")
    registry.interrupt()
    # Devices without a VM go from mounter to mounter, and the first one has them still.
    second = Tool("drafter-mounter", *guide.exposure, "--raddr", "localhost:1338", "--laddr", "", "--devices",
                  guide.devices("second")).wait("arrived")
    mounter.wait("pulled").interrupt()
    second.interrupt()
    # The VM that runs becomes a backup, which a runner starts.
    os.mkdir("backup")
    run("drafter-terminator", "--devices", guide.listing("backup", "output"))
    clone.wait("moved").end()
    assert sorted(os.listdir("backup")) == sorted(files)
    guide.runner("backup", "--devices", guide.listing("backup", "path")).saved()
    if forwards:
        forwards.interrupt()


def tour(guide, *steps):
    for step in steps:
        started = time.monotonic()
        step(guide)
        print(f"{step.__name__}: {time.monotonic() - started:.1f} s", flush=True)
