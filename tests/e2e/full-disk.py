#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Disks that are full: a VM that cannot be saved runs on and loses nothing, an arrival without room fails cleanly, and
neither stops a hand-over from being recorded."""

import os
import signal
import subprocess

import drafterlab
from drafterlab import check


def small_disk(lab, name, size):
    """A file system of its own; the lab unmounts what a failed test leaves."""
    where = lab.path(name)
    os.makedirs(where, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "drafter-test", where], check=False).returncode:
        drafterlab.skip("no tmpfs can be mounted here (needs root)")
    return where


def fill(where):
    with open(f"{where}/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as error:
            print(f"{where}: {error.strerror}")


def unsaved_runs_on(lab, package):
    disk = small_disk(lab, "disk", "6m")
    beats = lab.heartbeats("a")
    a = lab.peer("a", package, listen=None,
                 devices={"memory": {"overlay": f"{disk}/memory.overlay", "state": f"{disk}/memory.state"}})
    a.wait("resumed")
    beats.goes_on("a", 2)
    a.child.send_signal(signal.SIGTERM)
    lab.eventually(lambda: a.messages("error"), "SIGTERM is refused")
    print(a.messages("error")[0])
    for words in ("could not be saved and runs on", "No space left", "ask again"):
        check(words in a.messages("error")[0], f"it says '{words}'")
    beats.goes_on("a", 1)
    check(a.child.poll() is None and not a.find("suspended"), "and nothing claims that the VM was saved")
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
    check(a.stop() == 0 and a.find("suspended"), "with more room SIGTERM saves the VM")
    a = lab.restart(a)
    a.wait("resumed")
    beats.verified("a")
    check(a.stop() == 0, "it went on from there")
    report = beats.report()
    check(report["chk_ok"] > 0, "the guest verified its memory")
    bad = {key: report[key] for key in ("repeated", "sweeps_back", "bad", "chk_bad")}
    check(not any(bad.values()), f"nothing of it was lost {bad}")
    subprocess.run(["umount", disk], check=True)


def arrival_without_room(lab, package):
    ledgers, room = small_disk(lab, "state", "256k"), small_disk(lab, "b", "16m")
    beats = lab.heartbeats("a", "b")
    a = lab.peer("a", package)
    a.wait("resumed")
    b = lab.peer("b", connect=a)
    drafterlab.refused(b, "No space left")
    a.settled()
    beats.goes_on("a")
    fill(ledgers)
    subprocess.run(["mount", "-o", "remount,size=512m", room], check=True)
    b = lab.restart(b)  # both ledgers are there since before the disk was full
    b.wait("arrived")
    check(a.exited() == 0 and a.find("moved"), "a full disk does not stop a hand-over from being recorded")
    beats.goes_on("b")
    check(b.stop() == 0, "and the VM is saved there")
    drafterlab.intact(beats.report())
    subprocess.run(["umount", room, ledgers], check=True)


def test(lab):
    package = lab.package(drafterlab.BUSY)
    unsaved_runs_on(lab, package)
    arrival_without_room(lab, package)


drafterlab.main(test)
