#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`drafter check FILE...` knows ledgers, packages and overlays, and finds a flipped bit in each of them."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import nodelab

DRAFTER = os.environ["DRAFTER"]


def check(*files):
    done = subprocess.run([DRAFTER, "check", "--json", *map(str, files)], capture_output=True, text=True, check=False,
                          timeout=nodelab.PATIENCE)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def texts(thing):
    return " / ".join(line["text"] for line in thing["findings"] if line["defect"])


def good(files, kind):
    status, things, errors = check(*files)
    assert status == 0 and [t["kind"] for t in things] == [kind] and things[0]["whole"], (status, things, errors)
    assert len(things[0]["files"]) == (2 if kind == "overlay" else 1), things


def bad(files, kind, *words):
    status, things, errors = check(*files)
    assert status == 1 and things[0]["kind"] == kind and not things[0]["whole"], (status, things, errors)
    assert things[0]["remedy"] and all(word in texts(things[0]) for word in words), things


def run_overlaid(directory):
    """A VM that runs for a while with an overlay on its memory, and is saved."""
    text = f"[peer]\ntransport = unix\nvmm = null\nexposure = null\nlisten = {directory}/socket\n"
    text += "".join(f"[device:{d}]\nbase = {directory}/{d}\n" for d in nodelab.DEVICES)
    text += f"overlay = {directory}/of-config\nstate = {directory}/map-of-config\n"
    text = text.replace(f"[device:memory]\nbase = {directory}/memory\n",
                        f"[device:memory]\nbase = {directory}/memory\noverlay = {directory}/writes\nstate = {directory}/map\n")
    node = nodelab.Node(directory, "peer", text)
    node.wait("listening")
    node.stop()


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-check-") as name:
        directory = pathlib.Path(name)
        nodelab.make_package(name)
        package = directory / "config"
        good([package], "package")
        flip(directory / "memory", 5 << 20)
        bad([package, directory / "memory"], "package", "device memory", "is not what was saved")
        flip(directory / "memory", 5 << 20)
        (directory / "kernel.in").unlink()
        shutil.move(directory / "kernel", directory / "other")
        bad([package], "package", "device kernel: no such file")
        shutil.move(directory / "other", directory / "kernel")
        print("ok: packages", flush=True)

        run_overlaid(name)
        ledger, overlay, state = (directory / name for name in ("vm.ledger", "writes", "map"))
        good([ledger], "ledger")
        good([overlay, state], "overlay")
        good([state, overlay], "overlay")
        status, things, _ = check(state, directory / "map-of-config", overlay, directory / "of-config", ledger)
        assert status == 0 and sorted(t["kind"] for t in things) == ["ledger", "overlay", "overlay"], things
        flip(ledger, 4096 + 100)
        bad([ledger], "ledger", "record 1 is damaged")
        flip(ledger, 4096 + 100)
        written = overlay.read_bytes()
        at = next(at for at in range(0, len(written), 4096) if any(written[at:at + 4096]))
        flip(overlay, at + 17)
        bad([overlay, state], "overlay", f"the page at byte {at} is not what was written")
        flip(overlay, at + 17)
        for copy in (8192, 8192 + 4096):
            flip(state, copy + 64)
        bad([overlay, state], "overlay", "both copies of map sector 0 are damaged")
        bad([state], "overlay", "name the overlay, too")
        print("ok: ledgers and overlays", flush=True)

        assert check(directory / "kernel")[0] == 2, "a file that nothing is known of"
        assert check(directory / "absent")[0] == 3
        assert check(directory)[0] == 2
        print("ok: other files", flush=True)


main()
