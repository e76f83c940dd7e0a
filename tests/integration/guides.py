#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The command lines of the original's two guides over the null VMM, and the file that a command line amounts to."""

import os
import pathlib
import subprocess
import tempfile

import guidelib
from guidelib import NODE, Guide, Tool


def kept_as_file(guide):
    """A command line and the file that it amounts to say the same."""
    line = ["peer", *guide.vm(0), *guide.exposure, *guide.postcopy, *NODE[:4], "--raddr", "", "--laddr", "",
            "--devices", guide.devices("single")]
    drafter = os.environ["DRAFTER"]
    text = subprocess.run([drafter, "config", *line], check=True, capture_output=True, text=True).stdout
    pathlib.Path("kept.ini").write_text(text)
    again = subprocess.run([drafter, "config", "--config", "kept.ini"], check=True, capture_output=True, text=True).stdout
    assert again == text, f"{text}\n----\n{again}"
    Tool("drafter-peer", "--config", "kept.ini").wait("resumed").saved()


def main():
    guidelib.isolate()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        Tool.install()
        try:
            guidelib.tour(Guide(), guidelib.earlier, guidelib.combinations, guidelib.later, kept_as_file)
        finally:
            Tool.end_all()
            os.chdir("/")


main()
