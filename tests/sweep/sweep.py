#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The n-th call of a kind fails, while a VM is packed, started, stopped or moved.

    sweep.py                          every n of every kind in every scenario
    sweep.py --seconds 30 --seed 1    as many as fit, spread over all of them
    sweep.py --jobs 4                 four cases at a time
    sweep.py --only destination/read:17

The process whose call failed succeeds all the same, or ends with an error that says what failed. It never crashes, hangs, or
leaves a file or process behind. Before and after, exactly one node may run the VM, and what the guest wrote is there.
"""

import argparse
import ctypes
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

KINDS = ("malloc", "open", "read", "write", "fsync", "mmap", "ioctl", "socket", "short", "eintr")
HARMLESS = ("short", "eintr")  # no failure at all: nobody may notice
DEVICES = ("kernel", "state", "memory", "config", "disk")
PATIENCE = 20  # s
DRAFTER = os.environ["DRAFTER"]
BUILD = pathlib.Path(os.environ.get("abs_top_builddir", "."))
INTERPOSER = os.environ.get("INTERPOSER", str(BUILD / "tests/sweep/.libs/interpose.so"))
VMM = "[vmm:vm]\nplugin = null\nfill = 512k\ndirty-rate = 2000\ndisk-rate = 500\n"
PR_SET_CHILD_SUBREAPER = 36


class Wrong(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Wrong(text)


class Failure:
    """What is to fail, and what came of it."""

    def __init__(self, directory, kind, at):
        self.path, self.kind, self.number = os.path.join(directory, "calls"), kind, int(at)
        self.environment = {"LD_PRELOAD": INTERPOSER, "DRAFTER_FAIL": f"{kind}:{at}", "DRAFTER_FAIL_FILE": self.path}
        with open(self.path, "wb") as file:
            file.truncate(4096)
        with open(self.path, "rb") as file:
            self.shared = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)

    def count(self):
        return int.from_bytes(self.shared[0:8], "little")

    def happened(self):
        return self.shared[8] != 0

    def caller(self):
        return self.shared[16:528].split(b"\0")[0].decode()


class Node:
    def __init__(self, directory, role, text, failure=None):
        os.makedirs(directory, exist_ok=True)
        self.directory, self.failure, self.unsaved = directory, failure, False
        self.config = os.path.join(directory, f"{role}.ini")
        pathlib.Path(self.config).write_text(f"[drafter]\nrole = {role}\nname = vm\nstate-directory = {directory}/ledger\n"
                                             f"run-directory = {directory}/run\n{VMM}{text}")
        path = os.path.join(directory, "log")
        self.log = open(path, "a+")  # for appending: drafter shares our position in it
        os.unlink(path)
        environment = dict(os.environ, **(failure.environment if failure else {}))
        self.child = subprocess.Popen([DRAFTER, "--log-format", "json", "--config", self.config], stderr=self.log,
                                      env=environment)

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def has(self, event):
        return f'"event":"{event}"' in self.said()

    def ended(self):
        return self.child.poll() is not None

    def signal(self, number=signal.SIGTERM):
        if not self.ended():
            self.child.send_signal(number)

    def errors(self):
        records = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [r["message"] for r in records if r.get("level") == "error" and r.get("message")]

    def stop(self):
        """A VM that could not be saved runs on until the next request; for ever, when a sync has failed."""
        self.signal()
        await_that(lambda: self.ended() or "runs on" in self.said(), "does not stop")
        self.signal()
        await_that(lambda: self.ended() or self.said().count("runs on") > 1, "does not stop when asked again")
        if not self.ended():
            check("cannot flush it" in self.said(), f"cannot be stopped: {self.errors()}")
            self.unsaved = True
            self.signal(signal.SIGKILL)
            self.child.wait()
            shutil.rmtree(f"{self.directory}/run", ignore_errors=True)
            pathlib.Path(self.directory).with_name("socket").unlink(missing_ok=True)

    def judge(self, failure):
        """It has ended, and well: successfully, or because of the failure and saying so."""
        status = self.child.poll()
        check(status is not None, "hangs")
        if self.unsaved:
            return False
        check(status >= 0, f"was ended by signal {-status}")
        if status == 0:
            return True
        check(failure.happened(), f"exit status {status} without a failure: {self.errors()}")
        check(failure.kind not in HARMLESS, f"exit status {status}: noticed what is no failure: {self.errors()}")
        check(self.errors(), f"exit status {status} without a word")
        return False


def await_that(condition, text, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, text)
        time.sleep(0.003)


def device_sections(directory, keys):
    text = ""
    for device in DEVICES:
        text += f"[device:{device}]\n" + "".join(f"{key} = {directory}/{device}{suffix}\n" for key, suffix in keys(device))
    return text


def overlaid(device):
    layer = [("overlay", ".overlay"), ("state", ".map")] if device in ("memory", "disk") else []
    return [("base", "")] + layer


class Case:
    def __init__(self, directory, kind="malloc", at=0):
        self.directory = directory
        self.failure = Failure(directory, kind, at)
        self.nodes = []
        self.a, self.b = f"{directory}/a", f"{directory}/b"

    def node(self, *arguments):
        self.nodes.append(Node(*arguments))
        return self.nodes[-1]

    def snapshotter(self, failure=None):
        os.makedirs(self.a, exist_ok=True)
        for name in ("kernel", "disk"):
            pathlib.Path(self.a, f"{name}.in").write_bytes(b"a kernel that nobody runs" if name == "kernel" else bytes(1 << 20))

        def keys(device):
            return [("output", "")] + ([("input", ".in")] if device in ("kernel", "disk") else [])
        return self.node(self.a, "snapshotter", "[snapshotter]\nvmm = vm\nmemory-size = 1M\nliveness = no\nagent = no\n"
                         "settle = 5ms\n" + device_sections(self.a, keys), failure)

    def peer(self, directory, where, failure=None):
        text = f"[peer]\ntransport = unix\nvmm = vm\nexposure = null\ndisable-postcopy-migration = yes\n{where}\n"
        return self.node(directory, "peer", text + device_sections(directory, overlaid), failure)

    def source(self, failure=None):
        return self.peer(self.a, f"listen = {self.directory}/socket", failure)

    def destination(self, failure=None):
        return self.peer(self.b, f"connect = {self.directory}/socket", failure)

    def ledger(self, directory):
        done = subprocess.run([DRAFTER, "ownership", "--json", "--config", f"{directory}/peer.ini"], capture_output=True,
                              text=True, check=False)
        check(done.returncode == 0, f"no ledger: {done.stderr}")
        return json.loads(done.stdout)

    def package(self):
        node = self.snapshotter()
        await_that(node.ended, "no package")
        check(node.judge(self.failure), "no package")

    def finish(self):
        for node in self.nodes:
            node.signal(signal.SIGKILL)
            node.child.wait()
            node.log.close()


def start(case):
    """Started from files and stopped."""
    node = case.source(case.failure)
    await_that(lambda: node.ended() or node.has("listening"), "does not start, nor end")
    node.stop()
    return node


def end_all(case):
    for node in case.nodes:
        node.stop()
        node.judge(case.failure)


def restart(case):
    """What is on disk is a VM that starts, with all that it wrote, or is said not to be one."""
    node = case.source()
    await_that(lambda: node.ended() or node.has("listening"), "does not start again, nor end")
    if node.ended():
        check("was not saved" in node.said(), f"does not start again: {node.said()}")
        return False
    return True


def scenario_package(case):
    node = case.snapshotter(case.failure)
    await_that(node.ended, "does not end")
    well = node.judge(case.failure)
    left = sorted(set(os.listdir(case.a)) - {"snapshotter.ini", "ledger", "run", "kernel.in", "disk.in", *DEVICES})
    check(not left, f"left behind: {left}")
    if well:
        check(restart(case), "the package is none")
        end_all(case)
    else:
        check(not os.path.exists(f"{case.a}/config"), "a package although it failed")


def scenario_start(case):
    node = start(case)
    saved = node.has("suspended")
    well = node.judge(case.failure)
    check(saved or not well, "ended well and did not save the VM")
    again = restart(case)
    check(again or not saved, "was saved and does not start again")
    check(again or node.has("resumed"), f"a VM that never ran here is lost: {node.said()}")
    end_all(case)


def scenario_move(case, victim):
    a = case.source(case.failure if victim == "a" else None)
    await_that(lambda: a.ended() or a.has("listening"), "does not start, nor end")
    if a.ended():
        a.judge(case.failure)
        check(a.has("suspended") or a.has("rescued") or not a.has("resumed"), f"ended with the VM: {a.errors()}")
        check(restart(case), "a VM that is saved or never ran here is lost")
        end_all(case)
        return
    descriptors = len(os.listdir(f"/proc/{a.child.pid}/fd"))
    b = case.destination(case.failure if victim == "b" else None)
    await_that(lambda: b.ended() or (a.ended() and b.has("arrived")), "neither moves nor ends")
    if b.ended():
        if victim == "b":
            b.judge(case.failure)
        check(not a.ended(), f"the source ended: {a.errors()}")
        check(case.ledger(case.a)["state"] == "owned", "the source does not own the VM")
        left = [name for name in os.listdir(case.b) if name not in ("ledger", "run", "peer.ini")]
        check(not left, f"the destination left behind: {left}")
        # A session that may be found again has its own for a while.
        await_that(lambda: len(os.listdir(f"/proc/{a.child.pid}/fd")) <= descriptors + 2,
                   f"holds more than the {descriptors} descriptors that the source had")
        b = case.destination()
        await_that(lambda: b.ended() or (a.ended() and b.has("arrived")), "the second attempt neither moves nor ends")
        if case.failure.kind == "fsync" and victim == "a" and b.ended() and not a.ended():
            end_all(case)  # a sync that failed is never forgotten: the VM stays where it is
            return
        check(not b.ended(), f"the second attempt fails: {b.errors()}")
    check(a.judge(case.failure), "the source failed although the VM moved")
    states = [case.ledger(directory)["state"] for directory in (case.a, case.b)]
    check(states == ["relinquished", "owned"], f"ledgers: {states}")
    end_all(case)


def scenario_source(case):
    scenario_move(case, "a")


def scenario_destination(case):
    scenario_move(case, "b")


def scenario_killed(case):
    """The snapshotter is killed: there is no package, or a whole one, whatever was there before."""
    if case.failure.number % 2:
        case.package()
    node = case.snapshotter(case.failure)
    await_that(node.ended, "does not end")
    check(node.child.poll() in (0, -signal.SIGKILL), f"exit status {node.child.poll()}")
    case.nodes.remove(node)
    node.log.close()
    if os.path.exists(f"{case.a}/config"):
        done = subprocess.run([DRAFTER, "check", f"{case.a}/config"], capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"half a package: {done.stdout}")
    case.package()
    check(restart(case), "the next package is none")
    end_all(case)
    left = [name for name in os.listdir(case.a) if name.endswith(".part")]
    check(not left, f"left behind: {left}")


SCENARIOS = {"package": scenario_package, "start": scenario_start, "source": scenario_source,
             "destination": scenario_destination, "killed": scenario_killed}


def left_behind(case):
    said = "".join(node.said() for node in case.nodes)
    left = [str(p) for p in pathlib.Path(case.directory).glob("*/run/*")] + [
        str(p) for p in pathlib.Path(case.directory).glob("*/*.new")]
    left = [path for path in left if path not in said]  # removing it is what failed; the next start does
    check(not left, f"left behind: {left}")
    check(not os.path.exists(f"{case.directory}/socket"), "left its socket behind")
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        raise Wrong(f"left a process behind: {pid or 'still running'}")
    except ChildProcessError:
        pass


def run(template, scenario, kind, at):
    """Returns the number of calls and whether one failed; raises Wrong."""
    with tempfile.TemporaryDirectory(prefix="drafter-sweep-") as directory:
        if scenario not in ("package", "killed"):
            shutil.copytree(f"{template}/a", f"{directory}/a", symlinks=True)
        case = Case(directory, kind, at)
        try:
            SCENARIOS[scenario](case)
            left_behind(case)
        except Wrong as wrong:
            logs = "".join(f"\n--- {n.config}\n{n.said()}" for n in case.nodes)
            raise Wrong(f"{wrong}; the call was {case.failure.caller() or 'none'}{logs}") from None
        finally:
            case.finish()
        return case.failure.count(), case.failure.happened()


def plan(template, scenarios, kinds):
    for scenario in scenarios:
        for kind in kinds if scenario != "killed" else ("kill",):
            count, _ = run(template, scenario, kind, 0)
            print(f"{scenario}: {count} calls of {kind}", flush=True)
            yield scenario, kind, count


def spread(counts, generator):
    """All cases, such that any beginning of the list is spread over all kinds and calls."""
    lists = []
    for scenario, kind, count in counts:
        ats = list(range(1, count + 1))
        generator.shuffle(ats)
        lists.append([(scenario, kind, at) for at in ats])
    return [case for row in range(max(map(len, lists))) for cases in lists for case in cases[row:row + 1]]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0, help="begin no further case after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="as many cases at a time")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", metavar="SCENARIO/KIND:N")
    return parser.parse_args()


def adopt_orphans():
    """What a case leaves running becomes ours: nobody else would see it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def sweep_all(options, cases, template):
    """In a process for each job, as each has to see its own orphans."""
    workers = []
    for job in range(min(options.jobs, len(cases))):
        worker = os.fork()
        if not worker:
            adopt_orphans()
            os._exit(0 if sweep(options, cases[job::options.jobs], template) else 1)
        workers.append(worker)
    return all([os.waitpid(worker, 0)[1] == 0 for worker in workers])


def sweep(options, cases, template):
    started, ran, failed, wrong = time.monotonic(), 0, 0, 0
    for scenario, kind, at in cases:
        if options.seconds and time.monotonic() - started > options.seconds:
            break
        ran += 1
        try:
            failed += run(template, scenario, kind, at)[1]
        except Wrong as error:
            wrong += 1
            print(f"not ok: {scenario}/{kind}:{at}: {error}", flush=True)
    print(f"{ran} of {len(cases)} cases in {time.monotonic() - started:.0f} s, {failed} calls failed, {wrong} wrong",
          flush=True)
    return wrong == 0 and failed > 0


def main():
    options = arguments()
    if os.environ.get("SANITIZERS", "no") != "no":
        print("skipped: a sanitizer has its own malloc")
        return 77
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="drafter-sweep-") as template:
        case = Case(template)
        case.package()
        case.finish()
        if options.only:
            scenario, call = options.only.split("/")
            cases = [(scenario, *call.split(":"))]
        else:
            counts = list(plan(template, options.scenarios.split(","), options.kinds.split(",")))
            cases = spread(counts, random.Random(options.seed))
        return 0 if sweep_all(options, cases, template) else 1


sys.exit(main())
