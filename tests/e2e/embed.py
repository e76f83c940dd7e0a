#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A program that embeds drafter starts a guest from a package, moves it to a second node and stops it there."""

import os
import pathlib
import subprocess

import drafterlab
from drafterlab import check

PROGRAM = pathlib.Path(os.environ.get("abs_top_builddir", ".")) / "tests/e2e/embed-example"


def keep(lab):
    """From now on the lab writes configurations for somebody else, and starts nothing."""
    def write(name, text, failpoint=None):
        path = pathlib.Path(lab.path(f"{name}.ini"))
        path.write_text(text)
        return path
    lab.node = write


def test(lab):
    package = lab.package()
    lab.nodes.clear()
    keep(lab)
    address = lab.spot("a", f"127.0.0.1:{lab.free_port()}")
    first = lab.peer("a", package, listen=None)
    second = lab.peer("b", connect=address, listen=None)
    beats = lab.heartbeats("a", "b")
    done = subprocess.run([PROGRAM, drafterlab.DRAFTER, first, second, address], capture_output=True, text=True,
                          timeout=3 * drafterlab.PATIENCE)
    print(done.stdout, done.stderr)
    check(done.returncode == 0, "the program did it")
    lines = done.stdout.splitlines()
    check(all(line in lines for line in ("first: resumed", "first: moved", "second: arrived", "second is running")),
          "both nodes told it")
    check("second: suspended" in lines, "the VM was saved at the second node in the end")
    check(beats.count("a") and beats.count("b"), "its guest was heard at both nodes")
    drafterlab.intact(beats.report())
    check(not [line for line in lab.processes() if "/run/a/" in line or "/run/b/" in line], "nothing of it runs")
    check(not list(pathlib.Path(lab.path("run")).glob("*/*.control")), "no socket is left")


drafterlab.main(test)
