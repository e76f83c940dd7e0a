#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VM moves; at a named step something dies, breaks or is cancelled; what died starts again. Who runs the VM then?

    chaos.py                      all steps and faults, about five seconds each
    chaos.py --steps S9,S11 --faults cut,kill-source
    chaos.py --quick              one fault of each kind at the steps that decide, for CI
    chaos.py --record FILE        adds the outcomes to FILE (JSON), from which outcomes.py makes the page

In every case, whatever the fault: never do two copies run; what the guest remembers is never older than what it knew,
nor wrong; somebody runs the VM unless a process that held it was killed or told to end; nothing is left behind.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import drafterlab  # noqa: E402

# The side that pauses at the step while the fault is made.
STEPS = {**{f"S{n}": "a" for n in range(12)}, **{f"S{n}": "b" for n in range(12, 18)}, "S18": "a", "S19": "a"}
FAULTS = ("kill-source", "kill-destination", "kill-source-vmm", "kill-destination-vmm", "cut", "stall", "flip", "disk-full",
          "cancel-source", "cancel-destination", "ctl-cancel", "stall-one")
QUICK = [("S4", "cut"), ("S4", "kill-destination"), ("S4", "stall"), ("S9", "stall"), ("S9", "flip"), ("S9", "disk-full"), ("S10", "kill-destination"),
         ("S11", "cut"), ("S11", "kill-source"), ("S11", "kill-destination"), ("S16", "cut")]
GUEST = "fill=24 dirty=12 rate=0 write=full check=1"
PAUSE_MS = 400  # at the step; what the harness does fits into it
STALL = 4.5  # s; longer than three heartbeats
QUIET = 2.5  # s without a change: the outcome
PATIENCE = 25  # s


class Case:
    def __init__(self, lab, package, step, fault):
        self.lab, self.package, self.step, self.fault = lab, package, step, fault
        self.nodes, self.killed, self.ended, self.reached, self.answer = {}, [], [], True, None

    def start(self, name, failpoint=None, **options):
        os.environ.pop("DRAFTER_FAILPOINT", None)
        if failpoint:
            os.environ["DRAFTER_FAILPOINT"] = failpoint
        self.nodes[name] = self.lab.peer(name, **options)
        os.environ.pop("DRAFTER_FAILPOINT", None)
        return self.nodes[name]

    def run(self):
        side = STEPS[self.step]
        point = f"{self.step}:pause={PAUSE_MS}"
        self.beats = self.lab.heartbeats("a", "b")
        a = self.start("a", point if side == "a" else None, files=self.package, max_passes=2)
        self.beats.wait("beat", "a", drafterlab.PATIENCE)
        self.listen = a.address
        self.address, self.control = self.lab.link(a, 2, "300m")
        if self.fault == "disk-full":
            self.mount()
        self.connect_b(point if side == "b" else None)
        self.reached = self.await_step(self.nodes[side])
        self.fault_at = time.monotonic()
        if self.reached:
            self.inject()
        self.settle()
        self.restart()
        return self.outcome()

    def connect_b(self, failpoint=None):
        self.start("b", failpoint, connect=self.address)

    def await_step(self, node):
        deadline = time.monotonic() + PATIENCE
        while not node.find("failpoint") and node.child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return bool(node.find("failpoint"))

    # Faults

    def mount(self):
        directory = self.lab.path("b")
        os.makedirs(directory, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96M", "chaos", directory], check=True)
        self.lab.callback(lambda: subprocess.run(["umount", "-l", directory], check=False, stderr=subprocess.DEVNULL))

    def fill(self, directory):
        with contextlib.suppress(OSError), open(os.path.join(directory, ".filler"), "wb", buffering=0) as filler:
            while filler.write(bytes(1 << 20)):
                pass

    def inject(self):
        a, b = self.nodes["a"], self.nodes["b"]
        target = a if self.fault.endswith("source") or self.fault == "kill-source-vmm" else b
        if self.fault in ("kill-source", "kill-destination"):
            self.killed.append(target.name)
            target.child.kill()
        elif self.fault.endswith("-vmm"):
            for pid in vmms(target.child.pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        elif self.fault.startswith("cancel"):
            self.ended.append(target.name)
            target.child.send_signal(signal.SIGINT)
        elif self.fault == "ctl-cancel":
            self.ctl_cancel()
        elif self.fault == "disk-full":
            self.fill(self.lab.path("b"))
        elif self.fault == "flip":
            self.control("flip next 0 dir=down")
        elif self.fault == "stall-one":  # the first bulk stream of those that are there
            self.control(f"stall conn={min(3, self.control('stats')['accepted'])}")
        else:
            self.control(self.fault)
        if self.fault.startswith("stall"):
            time.sleep(STALL)
            self.control("resume")

    def ctl_cancel(self):
        """The move is called off and the VM stays, or it is too late and the answer says so."""
        done = subprocess.run([drafterlab.DRAFTER, "ctl", "--run-directory", self.lab.path("run/a"), "cancel"],
                              capture_output=True, text=True, check=False)
        self.answer = done.stderr.strip() or "cancelled"

    # What came of it

    def running(self, seconds=0.4):
        counts = [self.beats.count(name) for name in "ab"]
        time.sleep(seconds)
        return [name for name, count in zip("ab", counts) if self.beats.count(name) > count + 3]

    def state(self):
        return ([self.nodes[n].child.poll() for n in "ab"], [len([e for e in self.nodes[n].events if e.get("event") not in (
            "leaving", "arriving")]) for n in "ab"], self.running())

    def settle(self):
        """Until nothing changes any more."""
        deadline, last, since = time.monotonic() + PATIENCE, None, 0
        while time.monotonic() < deadline:
            now = self.state()
            if now != last:
                last, since = now, time.monotonic()
            codes, _, running = now
            moved = codes[0] == 0 and self.nodes["b"].find("arrived") and running == ["b"]
            kept = codes[1] is not None and running == ["a"] and not self.open_moves()
            if moved or kept or None not in codes or time.monotonic() - since > QUIET:
                return

    def open_moves(self):
        events = self.nodes["a"].events
        return len([e for e in events if e.get("event") == "leaving" and "peer" in e]) - len(
            [e for e in events if e.get("event") == "kept"])

    def restart(self):
        """What was killed starts again; then a destination that has given up, if the VM waits for its word."""
        if not self.killed:
            return
        for name in self.killed:
            self.nodes[name].exited()
            if name == "a":
                self.start("a", files=self.lab.path("a"), listen=self.listen)
            else:
                self.connect_b()
        self.settle()
        if "a" in self.killed and not self.running() and self.nodes["b"].child.poll() is not None:
            self.connect_b()
            self.settle()

    def ledger(self, name):
        done = subprocess.run([drafterlab.DRAFTER, "ownership", "--json", "--config", self.nodes[name].config],
                              capture_output=True, text=True, check=False)
        seen = json.loads(done.stdout) if done.stdout else {"state": "?", "epoch": 0}
        return f"{seen['state']} {seen['epoch']}" if seen["epoch"] else seen["state"]

    def silence_ms(self):
        """The longest that the guest was not heard, from the fault to its last beat."""
        times = []
        with open(self.beats.log) as log:
            for line in log:
                words = line.split()
                if len(words) == 5:
                    times.append(float(words[0]))
        return max((late - early for early, late in zip(times, times[1:])), default=0)

    def outcome(self):
        running = self.running() or self.running(2)  # a busy host
        result = {"step": self.step, "fault": self.fault, "reached": self.reached, "runs": running,
                  "ledgers": [self.ledger(n) for n in "ab"], "status": [self.nodes[n].child.poll() for n in "ab"],
                  "says": [self.last_word(n) for n in "ab"], "answer": self.answer}
        for node in self.lab.nodes:
            if node.child.poll() is None:
                node.child.send_signal(signal.SIGTERM)
        for node in self.lab.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.exited(20)
        report = self.beats.report()
        result["silence_ms"] = round(report["max_gap_ms"] if report.get("max_gap_ms") is not None else 0)
        result["wrong"] = self.judge(result, report)
        return result

    def last_word(self, name):
        words = self.nodes[name].messages("error") or self.nodes[name].messages("warning")
        return words[-1].replace(str(self.lab.dir), "") if words else ""

    def judge(self, result, report):
        """What must not be, in any case."""
        wrong = []
        if not self.reached:
            wrong.append("the step was not reached")
        if len(result["runs"]) > 1:
            wrong.append("two copies run")
        if not report["intact"]:
            wrong.append(f"the guest: { {k: report[k] for k in ('repeated', 'rewound', 'split_brain', 'sweeps_back', 'bad', 'chk_bad')} }")
        if not result["runs"] and not self.killed and not self.ended and not self.fault.endswith("-vmm"):
            wrong.append("nobody runs the VM")
        if self.answer and (self.answer == "cancelled") != (result["runs"] == ["a"]):
            wrong.append(f"the operator was told: {self.answer}")
        return wrong + self.left_behind()

    def left_behind(self):
        with contextlib.redirect_stdout(io.StringIO()):
            left = [f"process {p}" for p in self.lab.processes()] + [
                f"mount {m}" for m in self.lab.mounts() if m != self.lab.path("b")]
            left += [str(p) for p in self.lab.dir.glob("run/*/*")]
        return [f"left behind: {text}" for text in left]


def children(pid):
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as found:
                yield from map(int, found.read().split())


def vmms(pid):
    """QEMU below a process, however deep."""
    for child in list(children(pid)):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("qemu"):
                yield child
        yield from vmms(child)


def save(path, results):
    known = {}
    with contextlib.suppress(OSError, ValueError):
        known = {(r["step"], r["fault"]): r for r in json.loads(pathlib.Path(path).read_text())}
    known.update({(r["step"], r["fault"]): r for r in results})
    pathlib.Path(path).write_text(json.dumps(list(known.values()), indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--record", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=0, help="begin no further case after so long")
    parser.add_argument("--missing", action="store_true", help="only what FILE does not have")
    parser.add_argument("--logs", action="store_true", help="print the logs of all cases")
    args = parser.parse_args()
    args.cases = QUICK if args.quick else [(s, f) for s in args.steps.split(",") for f in args.faults.split(",")]
    if args.missing and args.record and os.path.exists(args.record):
        known = {(r["step"], r["fault"]) for r in json.loads(pathlib.Path(args.record).read_text())}
        args.cases = [case for case in args.cases if case not in known]
    return args


def main():
    drafterlab.need_host()
    if os.geteuid() != 0:
        drafterlab.skip("not root: no disk can be filled")
    args, started, failed = arguments(), time.monotonic(), 0
    with drafterlab.Lab() as home:
        package = home.package(GUEST, memory="64M")
        for step, fault in args.cases:
            if args.seconds and time.monotonic() - started > args.seconds:
                break
            begun = time.monotonic()
            with drafterlab.Lab() as lab:
                result = Case(lab, package, step, fault).run()
                if result["wrong"] or args.logs:
                    lab.print_logs()
            failed += bool(result["wrong"])
            print(f"{'FAILED' if result['wrong'] else 'ok'}: {step} {fault}: runs at {result['runs'] or 'nobody'}, ledgers "
                  f"{result['ledgers']}, status {result['status']}, silence {result['silence_ms']} ms, "
                  f"{time.monotonic() - begun:.1f} s {'; '.join(result['wrong'])}", flush=True)
            if args.record:
                save(args.record, [result])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
