# SPDX-License-Identifier: BSD-2-Clause
"""Peers, registries, links and heartbeats for end-to-end tests and benchmarks; all of it ends with the Lab.

A test reads like this:

    with drafterlab.Lab() as lab:
        package = lab.package("fill=64 dirty=16 rate=20000 check=1")
        a = lab.peer("a", package)
        b = lab.peer("b", connect=a)
        b.wait("arrived")

With LAB_TLS=tcp or LAB_TLS=unix in the environment all nodes have keys, trust each other's, and speak tls over that transport.

Standard library only. Everything lives in one temporary directory; all traffic stays on the loopback interface. What a
VM does is told by its heartbeats, which drafter-heartbeats stamps, not by what drafter says of itself.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "bench"))
built = os.environ.get("abs_top_builddir") or os.environ.get("top_builddir", TESTS.parent)
os.environ["top_builddir"] = os.path.abspath(built)  # tests may go to another directory

import benchlib  # noqa: E402  (its place is only known now)

BUILD = pathlib.Path(os.environ["top_builddir"])
DRAFTER = os.environ.get("DRAFTER", str(BUILD / "core/drafter"))
os.environ.setdefault("DRAFTER_PLUGIN_PATH", str(BUILD / "plugins/loadable"))

DEVICES = ("kernel", "state", "memory", "config")
FILES = {"kernel": "vmlinux", "state": "state.bin", "memory": "memory.bin", "config": "config.json"}
QUIET = "fill=16 dirty=2 rate=1000"  # a guest for tests that are not about memory
BUSY = "fill=64 dirty=16 rate=40000 check=1"  # proves its memory while it changes it
TLS = os.environ.get("LAB_TLS")
PATIENCE = float(os.environ.get("DRAFTER_TEST_PATIENCE", 60))  # s for anything that should happen at once; machines of tests are busy


class Failure(Exception):
    """An expectation that was not met, in words for whoever reads the test's log."""


def check(condition, text):
    """Says what is checked; the test ends here when it does not hold."""
    if not condition:
        raise Failure(text)
    print(f"ok: {text}", flush=True)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def need_host(qemu=True):
    """Skips where no VM can be shown a device file or none can run."""
    if qemu and not shutil.which(benchlib.QEMU):
        skip(f"{benchlib.QEMU} is not installed")
    if not os.path.exists("/dev/fuse"):
        skip("/dev/fuse is missing")
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        skip("neither root nor fusermount3: FUSE files cannot be mounted")
    if not os.path.exists(DRAFTER):
        skip(f"{DRAFTER} is not built")


def main(test, make_lab=None, qemu=True):
    """Runs a test function with a Lab; its failure is one line and the logs of all nodes."""
    need_host(qemu)
    lab = (make_lab or Lab)()
    try:
        with lab:
            test(lab)
            lab.check_leaks()
    except (Failure, benchlib.BenchError, subprocess.TimeoutExpired) as failure:
        print(f"FAILED: {failure}", flush=True)
        lab.print_logs()
        sys.exit(1)


def linux_image():
    """The directory of the Linux guest: IMAGE_DIR, or where make image puts it, made if need be."""
    path = pathlib.Path(os.environ.get("IMAGE_DIR", BUILD / "guest/image-out"))
    if not (path / "boot-args").exists():
        built = subprocess.run([f"{TESTS.parent}/guest/image/build-image.sh", str(path)], capture_output=True, text=True, check=False)
        if built.returncode:
            skip(f"the guest image cannot be built: {built.stderr.strip().splitlines()[-1:]}")
    return path


def value(text):
    return ("yes" if text else "no") if isinstance(text, bool) else text


def section(name, /, **options):
    lines = [f"{key.replace('_', '-')} = {value(v)}" for key, v in options.items() if v is not None]
    return "\n".join([f"[{name}]", *lines, ""])


class Node:
    """One drafter process. Its events are dictionaries; each got `at`, the seconds of CLOCK_MONOTONIC."""

    def __init__(self, lab, name, text, failpoint=None):
        self.lab, self.name, self.events, self.log = lab, name, [], []
        self.changed = threading.Condition()
        self.config = lab.path(f"{name}.ini")
        pathlib.Path(self.config).write_text(text)
        self.started = time.monotonic()
        lab.callback(lambda: self.reader.join(10))  # after the child's end
        self.child = lab.spawn([*lab.prefix(name), DRAFTER, "--log-level", lab.log_level, "--config", self.config],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=dict(os.environ, **({"DRAFTER_FAILPOINT": failpoint} if failpoint else {})))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        offset = time.time() - time.monotonic()
        with self.child.stderr as stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                with contextlib.suppress(ValueError):
                    event = json.loads(text)
                    event["at"] = parse_time(event["time"]) - offset
                    with self.changed:
                        self.events.append(event)
                        self.changed.notify_all()
                self.log.append(text)
        with self.changed:
            self.changed.notify_all()

    def find(self, event, **fields):
        wanted = {"event": event, **fields}
        for found in list(self.events):
            if all(found.get(key) == expected for key, expected in wanted.items()):
                return found
        return None

    def wait(self, event, timeout=PATIENCE, **fields):
        """Returns the event; a node that ends without it is a failure."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (found := self.find(event, **fields)):
                if not self.reader.is_alive() or (self.child.poll() is not None and not self.changed.wait(1)):
                    raise Failure(f"{self.name} ended with {self.child.poll()} before '{event}': {self.last_line()}")
                if time.monotonic() > deadline:
                    raise Failure(f"{self.name}: no '{event}' within {timeout} s")
                self.changed.wait(0.2)
        return found

    def settled(self):
        """Waits until every hand-over that began here has failed, and the node said so."""
        def open_moves():
            begun = [e for e in self.events if e.get("event") == "leaving" and "peer" in e]
            return len(begun) - len([e for e in self.events if e.get("event") == "kept"])
        self.lab.eventually(lambda: not open_moves(), f"{self.name} knows that it keeps the VM")

    def exited(self, timeout=PATIENCE):
        """Waits for the end of the process; returns its status."""
        status = self.child.wait(timeout)
        self.reader.join(10)
        return status

    def stop(self, timeout=PATIENCE):
        self.child.send_signal(signal.SIGTERM)
        return self.exited(timeout)

    def kill(self):
        self.child.kill()
        return self.exited()

    def messages(self, *levels):
        return [e["message"] for e in self.events if e.get("level") in levels and "message" in e]

    def last_line(self):
        return self.log[-1] if self.log else "(it said nothing)"

    @property
    def address(self):
        return self.wait("listening")["address"]

    @property
    def serial(self):
        return self.lab.path(f"{self.name}.serial")

    @property
    def directory(self):
        return self.lab.path(self.name)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


class Beats(benchlib.Heartbeats):
    """The guest's heartbeats on several nodes; a log of all of them is kept while they come."""

    def __init__(self, lab, sources, log):
        pathlib.Path(log).touch()
        super().__init__(lab, sources, ["--log", log])
        self.log = log

    def count(self, name):
        with open(self.log) as log:
            return sum(1 for line in log if f" {name} " in line)

    def ready(self, name):
        """Waits until the guest has filled its memory: it says so, or (unheard so far) has swept over it."""
        deadline = time.monotonic() + PATIENCE
        while ["ready", name] not in [event[:2] for event in self.poll()]:
            with open(self.log) as log:
                if any(int(line.split()[3]) for line in log if line.count(" ") == 4 and line.endswith("\n")):
                    return
            if time.monotonic() > deadline:
                raise Failure("the guest does not fill its memory")
            time.sleep(0.02)

    def verified(self, name):
        """Lets the VM run on node `name` until its guest tells of its checks, which it does after each 1000th beat."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with open(self.log) as log:
                seqs = [int(line.split()[2]) for line in log if line.endswith("\n") and line.count(" ") == 4]
            if seqs and seqs[-1] // 1000 > seqs[0] // 1000 and seqs[-1] % 1000 > 5:
                break
            time.sleep(0.1)
        self.goes_on(name, 0.1)

    def goes_on(self, name, seconds=0.3):
        """Says that the VM runs on node `name`, for that long and then still."""
        before = self.count(name)
        time.sleep(seconds)
        deadline = time.monotonic() + PATIENCE
        while self.count(name) < before + 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        check(self.count(name) >= before + 10, f"the guest goes on beating at {name}")


def parse_time(text):
    """Seconds since 1970 of 2000-01-01T00:00:00.000000Z."""
    whole, fraction = text.rstrip("Z").split(".")
    import calendar
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + fraction)


class Lab(benchlib.Bench):
    log_level = "debug"

    def __init__(self, directory=None):
        contextlib.ExitStack.__init__(self)
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = pathlib.Path(self.enter_context(
            tempfile.TemporaryDirectory(prefix="drafter-lab-", dir=directory or shared)))
        self.callback(self.unmount)
        self.nodes = []

    # What runs

    def node(self, name, text, failpoint=None):
        node = Node(self, name, text, failpoint)
        self.nodes.append(node)
        return node

    def prefix(self, _):
        """What a node's command line begins with."""
        return []

    def drafter_section(self, name, role, vm="vm", **more):
        if TLS:
            more = {"trust": self.path("trust.ini"), "plain_transport": "forbid", **more}
        return section("drafter", role=role, name=vm, run_directory=self.path(f"run/{name}"),
                       state_directory=self.path(f"state/{name}"), log_level="debug", **more)

    # Transports

    def safe(self, name, options):
        """The transport of a node that has a key of its own: sets it in the options, and returns its sections."""
        if not TLS or "transport" in options:
            return ""
        options["transport"] = "safe"
        key = self.path(f"{name}.key")
        if not os.path.exists(key):
            made = subprocess.run([DRAFTER, "keygen", self.path(name)], capture_output=True, text=True, check=True)
            with open(self.path("trust.ini"), "a") as trust:
                trust.write(section(f"key:{name}", identity=made.stdout.strip(), may="pull push registry"))
        return section("transport:wire", plugin=TLS) + section("transport:safe", plugin="tls", next="wire", key=key)

    def spot(self, name, address):
        """Where a node listens that would at HOST:PORT: a path, where nodes talk over UNIX sockets."""
        if TLS != "unix" or not address or address.startswith("/"):
            return address
        port = address.rsplit(":", 1)[1]
        return self.path(f"{name}.sock" if port == "0" else f"port-{port}.sock")

    def relay_listen(self):
        return f"unix:{self.path(f'relay-{time.monotonic_ns()}.sock')}" if TLS == "unix" else super().relay_listen()

    @staticmethod
    def dial(address, timeout=5):
        """A bare connection to where a node listens."""
        if not address.startswith("/"):
            host, port = address.rsplit(":", 1)
            return socket.create_connection((host, int(port)), timeout)
        bare = socket.socket(socket.AF_UNIX)
        bare.settimeout(timeout)
        bare.connect(address)
        return bare

    def restart(self, node):
        """The same configuration in a new process."""
        return self.node(node.name, pathlib.Path(node.config).read_text())

    @staticmethod
    def gaps(log):
        """How long the guest was not heard of between two beats, in ms, longest first."""
        with open(log) as lines:
            times = sorted(int(line.split()[0]) for line in lines if line.count(" ") == 4 and line.endswith("\n"))
        return sorted(((b - a) / 1e6 for a, b in zip(times, times[1:])), reverse=True)

    def vmm(self, name):
        """The process id of the one VMM of node `name`."""
        found = [line for line in self.processes() if f"/run/{name}/" in line and "holder" not in line]
        check(len(found) == 1, f"{name} has one VMM {found}")
        return int(found[0].split(":")[0])

    def snapshot(self, words, memory="128M", settle="300ms", name="snapshotter", directory=None, vmm=None):
        """Boots the test guest and makes a package of it, however far it got; returns its directory."""
        directory = directory or self.path("booted")
        os.makedirs(directory, exist_ok=True)
        devices = [section(f"device:{d}", input=self.guest_kernel() if d == "kernel" else None,
                           output=f"{directory}/{FILES[d]}") for d in DEVICES]
        node = self.node(name, "".join([
            self.drafter_section(name, "snapshotter"), section("vmm:vm", **{"plugin": "qemu", "accelerator": "tcg", **(vmm or {})}),
            section("snapshotter", vmm="vm", memory_size=memory, boot_args=self.guest_append(words), liveness=False,
                    agent=False, settle=settle), *devices]))
        status = node.exited()
        if status:
            raise Failure(f"the snapshotter ended with {status}: {node.last_line()}")
        return directory

    def package(self, words=QUIET, memory="128M"):
        """A package of the test guest that has filled its memory."""
        directory = self.snapshot(words, memory, settle="1ms")
        beats = self.heartbeats("packager")
        node = self.peer("packager", directory, listen=None, copy=False)
        beats.ready("packager")
        if node.stop():
            raise Failure(f"the packager ended badly: {node.last_line()}")
        benchlib.end(beats.child)
        shutil.rmtree(self.path("state/packager"), ignore_errors=True)
        return directory

    def peer(self, name, files=None, connect=None, listen="127.0.0.1:0", devices=None, vmm=None, drafter=None,
             extra="", copy=True, failpoint=None, **options):
        """A peer on a copy of `files` or on empty files of its own; `connect`: a node or an address.

        `devices` gives more options of devices by name (None: not this device), `vmm` those of the VMM, `options` those
        of [peer]. DRAFTER_TEST_EXPOSURE names the plugin that shows the devices, where the test chooses none.
        """
        exposure = os.environ.get("DRAFTER_TEST_EXPOSURE")
        if exposure and "exposure" not in options:
            extra += section("exposure:shown", plugin=exposure)
            options["exposure"] = "shown"
        directory = self.path(name)
        os.makedirs(directory, exist_ok=True)
        if files and copy and str(files) != directory:
            for file in FILES.values():
                subprocess.run(["cp", "--sparse=always", f"{files}/{file}", f"{directory}/{file}"], check=True)
        elif files:
            directory = str(files)
        connect = connect.address if isinstance(connect, Node) else self.spot(name, connect)
        options.setdefault("relink_timeout", "2s")
        extra += self.safe(name, options)
        text = [self.drafter_section(name, "peer", **(drafter or {})),
                section("vmm:vm", **{"plugin": "qemu", "accelerator": "tcg", "serial": f"unix:{self.path(name)}.serial",
                                     **(vmm or {})}),
                section("peer", vmm="vm", listen=self.spot(name, listen), connect=connect, **options)]
        for device in DEVICES:
            chosen = (devices or {}).get(device, {})
            if chosen is not None:
                text.append(section(f"device:{device}", **{"base": f"{directory}/{FILES[device]}", **chosen}))
        return self.node(name, "".join(text) + extra, failpoint)

    @staticmethod
    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def registry(self, name, files, listen="127.0.0.1:0", extra="", **options):
        extra += self.safe(name, options)
        text = [self.drafter_section(name, "registry"), section("registry", listen=self.spot(name, listen), **options)]
        text += [section(f"device:{d}", base=f"{files}/{FILES[d]}") for d in DEVICES]
        return self.node(name, "".join(text) + extra)

    def heartbeats(self, *nodes, log=None):
        """`nodes`: nodes or names of those to come."""
        names = [getattr(node, "name", node) for node in nodes]
        return Beats(self, {name: self.serial(name) for name in names},
                     log or self.path(f"beats-{time.monotonic_ns()}"))

    def serial(self, name):
        """Where the guest's serial port at node `name` is read."""
        return self.path(f"{name}.serial")

    def link(self, node, rtt_ms=0, rate=None, *options):
        """A relay in front of a node or an address; returns its address and a function for its control socket."""
        to = node.address if isinstance(node, Node) else node
        address, control = self.relay(to, rtt_ms, rate, options)
        return address, lambda command: relay_command(control, command)

    def eventually(self, condition, text, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        check(condition(), text)

    @staticmethod
    def digest(directory):
        files = sorted(pathlib.Path(directory).iterdir())
        return {file.name: hashlib.blake2b(file.read_bytes()).hexdigest() for file in files}

    # What is left behind

    def mounts(self):
        with open("/proc/self/mounts") as table:
            return [line.split()[1] for line in table if str(self.dir) in line]

    def processes(self):
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                # The name first: a command line is in memory that a stuck process keeps everybody from.
                if entry.isdigit() and pathlib.Path(f"/proc/{entry}/comm").read_text().startswith(("qemu", "drafter")):
                    words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.dir) in words and ("qemu" in words or "--config" in words or "drafter-holder" in words):
                        found.append(f"{entry}: {words}")
        return found

    def check_leaks(self):
        """After all nodes ended: no process, mount, socket or run directory of theirs is left."""
        for node in self.nodes:
            if node.child.poll() is None:
                node.stop()
        check(not self.processes(), f"no process is left {self.processes() or ''}")
        check(not self.mounts(), f"no mount is left {self.mounts() or ''}")
        left = [str(path) for path in self.dir.glob("run/*/*")] + [str(path) for path in self.dir.glob("*.serial")]
        check(not left, f"no run directory or socket is left {left or ''}")

    def unmount(self):
        for node in getattr(self, "nodes", []):
            if node.child.poll() is None:
                benchlib.end(node.child)
        for line in self.processes():
            with contextlib.suppress(OSError):
                os.kill(int(line.split(":")[0]), signal.SIGKILL)
        for mount in self.mounts():
            subprocess.run(["umount", "-l", mount], check=False, stderr=subprocess.DEVNULL)

    def print_logs(self):
        for node in self.nodes:
            print(f"--- log of {node.name} ---")
            print("\n".join(line for line in node.log[-60:]))


def relay_command(control, command):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(control)
        client.sendall(command.encode() + b"\n")
        answer = client.makefile().readline().strip()
    return json.loads(answer) if command == "stats" else answer


def refused(node, *words):
    """The node ended with an error that is one line and says these words, and left no file."""
    status = node.exited()
    check(status not in (0, None) and status > 0, f"{node.name} ends with status {status}")
    errors = node.messages("error")
    check(len(errors) == 1, f"it says one thing: {errors}")
    for word in words:
        check(word in errors[0], f"namely something of '{word}'")
    left = os.listdir(node.directory)
    check(not left, f"no file is left at {node.name} {left or ''}")


def intact(report):
    """The guest never noticed: checks its whole record."""
    keys = ("repeated", "rewound", "split_brain", "sweeps_back", "tsc_back", "bad", "chk_bad")
    check(report["intact"], f"the guest is intact: {({key: report[key] for key in keys})}")


def continuous(report):
    """The beats follow each other. Some are lost where nobody read the serial port for a few ms, which holds no more than
    that: a shared host may take the reader's processor away for some tens of them, whatever its priority."""
    check(report["missing"] <= report["count"] // 20, f"{report['count']} beats came, {report['missing']} did not")
