#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's own migration under the faults of chaos.py: the same guest, link and heartbeats. What comes of it is recorded, and
judged by nobody: it stands beside our outcomes.

    qemu.py                       all phases and faults
    qemu.py --phases post-copy --faults cut
    qemu.py --record FILE         adds the outcomes to FILE, for outcomes.py
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import benchlib  # noqa: E402
import chaos  # noqa: E402

PHASES = ("pre-copy", "post-copy", "completed")
FAULTS = ("kill-source", "kill-destination", "cut", "stall", "flip", "cont")
PATIENCE = 20  # s
WATCH = 10  # s after the fault, in which QEMU may notice
MEMORY = "65528k"  # QEMU 7.2 loses dirty pages of guests whose memory is a multiple of 256 KiB, see tests/bench/README.md


def applies(phase, fault):
    """Once everything has arrived there is no link that could fail, but a source that can be told to go on."""
    return (fault in ("cont", "kill-source", "kill-destination")) if phase == "completed" else fault != "cont"


class Case:
    def __init__(self, bench, phase, fault):
        self.bench, self.phase, self.fault = bench, phase, fault
        self.children, self.monitors = {}, {}

    def start(self, side, kernel):
        serial, qmp = f"unix:{self.bench.path(side + '.serial')},server=on,wait=off", self.bench.path(f"{side}.qmp")
        more = ["-incoming", "defer"] if side == "b" else []
        self.children[side] = self.bench.spawn(benchlib.qemu_argv(kernel, self.append, MEMORY, serial, qmp, *more))
        self.monitors[side] = benchlib.Qmp(qmp)
        self.bench.callback(self.monitors[side].close)

    def run(self):
        kernel = self.bench.guest_kernel()
        self.append = self.bench.guest_append(chaos.GUEST)
        self.log = self.bench.path("beats")
        pathlib.Path(self.log).touch()
        self.beats = benchlib.Heartbeats(self.bench, {s: self.bench.path(f"{s}.serial") for s in "ab"}, ["--log", self.log])
        for side in "ab":
            self.start(side, kernel)
        self.beats.wait("ready", "a", PATIENCE)
        self.migrate()
        self.inject()
        deadline = time.monotonic() + WATCH
        while time.monotonic() < deadline and not self.is_over():
            time.sleep(0.1)
        return self.outcome()

    def migrate(self):
        source, target = self.monitors["a"], self.monitors["b"]
        converges = self.phase == "completed" or (self.phase, self.fault) == ("pre-copy", "flip")
        if self.phase == "post-copy":
            for monitor in (source, target):
                monitor.capabilities("postcopy-ram")
        source.run("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000 if converges else 20)
        target.run("migrate-incoming", uri="tcp:127.0.0.1:0")
        address = target.run("query-migrate")["socket-address"][0]
        to, self.control = self.bench.relay(f"{address['host']}:{address['port']}", 2, "300m")
        source.run("migrate", uri=f"tcp:{to}")
        if self.phase == "post-copy":
            self.until(lambda: self.migration("a")[1] >= 2)
            source.run("migrate-start-postcopy")
            self.until(lambda: self.migration("a")[0] == "postcopy-active")
            time.sleep(0.05)
        elif self.phase == "completed":
            self.until(lambda: self.migration("a")[0] == "completed" and self.migration("b")[0] == "completed")
            time.sleep(0.5)
        else:
            time.sleep(0.3)

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise benchlib.BenchError("the phase was not reached")
            time.sleep(0.005)

    def migration(self, side):
        with contextlib.suppress(benchlib.BenchError, OSError, ValueError):
            info = self.monitors[side].run("query-migrate")
            return info.get("status", "none"), info.get("ram", {}).get("dirty-sync-count", 0)
        return "gone", 0

    def inject(self):
        if self.fault.startswith("kill"):
            self.children["a" if self.fault == "kill-source" else "b"].send_signal(signal.SIGKILL)
        elif self.fault == "cont":
            try:
                self.monitors["a"].run("cont")
                self.answer = "accepted"
            except benchlib.BenchError as error:
                self.answer = str(error)
        else:
            command = "flip next 0 dir=up" if self.fault == "flip" else self.fault
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(self.control)
                client.sendall(command.encode() + b"\n")
                client.makefile().readline()

    def is_over(self):
        states = [self.migration(s)[0] for s in "ab"]
        return all(s in ("completed", "failed", "gone", "none") for s in states) and "active" not in states

    def count(self, side):
        with open(self.log) as log:
            return sum(1 for line in log if f" {side} " in line)

    def running(self):
        before = [self.count(s) for s in "ab"]
        time.sleep(1)
        return [s for s, count in zip("ab", before) if self.count(s) > count + 3]

    def outcome(self):
        running = self.running()
        states = [self.migration(s)[0] for s in "ab"]
        report = self.beats.report()
        wrong = [key for key in ("bad", "chk_bad", "rewound", "sweeps_back", "split_brain") if report.get(key)]
        return {"phase": self.phase, "fault": self.fault, "runs": running, "states": states, "wrong": wrong,
                "answer": getattr(self, "answer", None), "version": benchlib.qemu_version()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--record", metavar="FILE")
    options = parser.parse_args()
    results, wanted = [], [(p, f) for p in options.phases.split(",") for f in options.faults.split(",")]
    if options.record and os.path.exists(options.record):
        results = [r for r in json.loads(pathlib.Path(options.record).read_text()) if (r["phase"], r["fault"]) not in wanted]
    for phase, fault in wanted:
        if not applies(phase, fault):
            continue
        try:
            with benchlib.Bench() as bench:
                results.append(Case(bench, phase, fault).run())
            print(json.dumps(results[-1]), flush=True)
        except (benchlib.BenchError, OSError) as error:
            print(f"{phase}/{fault}: {error}", flush=True)
        if options.record:
            pathlib.Path(options.record).write_text(json.dumps(results, indent=1) + "\n")
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
