# SPDX-License-Identifier: BSD-2-Clause
"""What every benchmark needs: programs, children that always end, QMP, the guest, and the line format.

Standard library only. All traffic stays on the loopback interface or on UNIX sockets.
"""

import contextlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
TOP = TESTS.parent
QEMU = os.environ.get("QEMU", "qemu-system-x86_64")

# name: (environment variable, place in a build tree, sources for a plain cc where there is no build tree)
PROGRAMS = {
    "drafter-relay": ("DRAFTER_RELAY", "tests/relay", "tests/relay",
                      ["main.c", "address.c", "link.c", "flow.c", "conn.c", "fault.c", "command.c", "control.c"]),
    "drafter-heartbeats": ("DRAFTER_HEARTBEATS", "tests/tools", "tests/tools",
                           ["heartbeats.c", "source.c", "beats.c", "report.c"]),
    "tsc-khz": ("TSC_KHZ", "guest/testguest", "guest/testguest", ["tsc-khz.c"]),
}

# The loads that the figures of the project are about: 512 MiB of incompressible data in a guest of 768 MiB.
LOADS = {
    "idle": "fill=512 dirty=0",
    "light": "fill=512 dirty=64 rate=12288",  # 48 MiB/s, again and again over 64 MiB
    "heavy": "fill=512 dirty=256 rate=0",  # a storm: as fast as it can, one word per page
    "full": "fill=512 dirty=256 rate=0 write=full",  # a storm that writes whole pages
}


class BenchError(Exception):
    """What could not be run, in words for the user."""


class Bench(contextlib.ExitStack):
    """A directory and children, all gone at the end whatever happens."""

    def __init__(self):
        super().__init__()
        self.dir = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="drafter-bench-")))

    def path(self, name):
        return str(self.dir / name)

    def spawn(self, argv, **options):
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)
        self.callback(end, child)
        return child

    def program(self, name):
        variable, build, source, files = PROGRAMS[name]
        built = pathlib.Path(os.environ.get("top_builddir", TOP)) / build / name
        if variable in os.environ:
            return os.environ[variable]
        if built.exists():
            return str(built)
        output = self.path(name)
        if not os.path.exists(output):
            sources = [str(TOP / source / file) for file in files]
            subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-O2", "-D_GNU_SOURCE", "-o", output, *sources], check=True)
        return output

    def guest_kernel(self):
        if "TESTGUEST" in os.environ:
            return os.environ["TESTGUEST"]
        kernel = self.path("testguest-pvh.elf")
        if not os.path.exists(kernel):
            subprocess.run([str(TOP / "guest/testguest/build.sh"), str(self.dir)], check=True)
        return kernel

    def guest_append(self, load):
        """A name from LOADS, or the guest's own words."""
        khz = subprocess.run([self.program("tsc-khz")], capture_output=True, text=True, check=True).stdout.strip()
        return f"{LOADS.get(load, load)} heartbeat_us=3000 tsc_khz={khz}"

    def relay(self, to, rtt_ms=0, rate=None, options=()):
        """Returns the relay's address in front of `to` (HOST:PORT), and its control socket."""
        control = self.path(f"relay-{time.monotonic_ns()}")
        argv = [self.program("drafter-relay"), "--listen", self.relay_listen(), "--to", to, "--rtt", str(rtt_ms),
                "--control", control, *options]
        if rate:
            argv += ["--rate", str(rate)]
        child = self.spawn(argv, stdout=subprocess.PIPE, text=True)
        line = child.stdout.readline().split()
        if not line:
            raise BenchError("the relay did not start")
        return line[-1].removeprefix("tcp:").removeprefix("unix:"), control

    def relay_listen(self):
        return "127.0.0.1:0"


def end(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()
    if child.stdout:
        child.stdout.close()


def relay_stats(control):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(control)
        client.sendall(b"stats\n")
        return json.loads(client.makefile().readline())


class Qmp:
    """The machine protocol of one QEMU; waits for its socket."""

    def __init__(self, path, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError as error:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise BenchError(f"QEMU does not answer at {path}") from error
                time.sleep(0.005)
        self.socket.settimeout(30)
        self.file = self.socket.makefile()
        self.file.readline()
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        message = {"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while line := self.file.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise BenchError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise BenchError(f"{command}: QEMU went away")

    def capabilities(self, *names):
        if names:
            self.run("migrate-set-capabilities", capabilities=[{"capability": n, "state": True} for n in names])

    def close(self):
        self.file.close()
        self.socket.close()


class Heartbeats:
    """drafter-heartbeats over the serial ports of VMs: paths of sockets, or addresses as it takes them, `file:PATH`."""

    def __init__(self, bench, sources, options=()):
        read, write = os.pipe()
        argv = [bench.program("drafter-heartbeats"), "--events", str(write), "--timeout", "7200", *options]
        for name, path in sources.items():
            argv += ["--source", f"{name}={path if path.startswith('file:') else 'connect:' + path}"]
        self.child = bench.spawn(argv, stdout=subprocess.PIPE, text=True, pass_fds=[write])
        os.close(write)
        os.set_blocking(read, False)
        self.read, self.buffer, self.seen = read, b"", []
        bench.callback(os.close, read)

    def poll(self):
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.read, 4096):
                self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        self.seen += [line.decode().split() for line in lines]
        return self.seen

    def wait(self, kind, source, timeout):
        deadline = time.monotonic() + timeout
        while not any(event[:2] == [kind, source] for event in self.poll()):
            if time.monotonic() > deadline:
                raise BenchError(f"no '{kind} {source}' from the guest within {timeout} s")
            time.sleep(0.005)

    def switched(self):
        return any(event[0] == "switch" for event in self.poll())

    def report(self):
        self.child.terminate()
        return json.loads(self.child.communicate(timeout=10)[0])


def qemu_argv(kernel, append, memory, serial, qmp, *more, ram=None):
    """One command line for all sides of all comparisons with QEMU. `ram`: a -object for the memory, with id=ram."""
    argv = [QEMU, "-M", "microvm" + (",memory-backend=ram" if ram else ""), "-accel", "tcg", "-cpu", "max",
            "-m", str(memory), "-nodefaults", "-no-user-config", "-display", "none", "-kernel", kernel,
            "-append", append, "-serial", serial]
    if qmp:
        argv += ["-qmp", f"unix:{qmp},server=on,wait=off"]
    return argv + (["-object", ram] if ram else []) + list(more)


def qemu_version():
    if not shutil.which(QEMU):
        raise BenchError(f"{QEMU} is not installed")
    text = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"version (\S+)", text)[1]


def emit(bench, ours, other, theirs, **more):
    """The line of the project: ratio is ours to theirs, so smaller is better for times and larger for speeds."""
    ratio = round(ours / theirs, 4) if theirs and ours is not None else None
    print(json.dumps({"bench": bench, "ours": ours, "other": other, "theirs": theirs, "ratio": ratio, **more}),
          flush=True)
    return ratio


def alternate(runs, ours, theirs):
    """A-B-A-B, so that a machine that gets slower is so for both. Returns the two lists of results."""
    results = ([], [])
    for _ in range(runs):
        results[0].append(ours())
        results[1].append(theirs())
    return results


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def spread(values):
    values = [v for v in values if v is not None]
    return [min(values), max(values)] if values else None


def machine():
    """What a figure is worthless without."""
    with open("/proc/cpuinfo") as info:
        model = re.search(r"model name\s*:\s*(.*)", info.read())
    with open("/proc/meminfo") as info:
        kib = int(re.search(r"MemTotal:\s*(\d+)", info.read())[1])
    return {"cpu": model[1] if model else platform.machine(), "cpus": os.cpu_count(),
            "memory_mib": kib // 1024, "kernel": platform.release(), "load": round(os.getloadavg()[0], 2)}
