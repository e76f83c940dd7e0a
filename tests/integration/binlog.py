#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a guest does is recorded, and done again with a copy: the same content, below an overlay too."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile

from nodelab import DEVICES, PATIENCE, Node, make_package

DRAFTER = os.environ["DRAFTER"]
WORKLOAD = pathlib.Path(os.environ["abs_top_srcdir"]) / "tests/integration/workload"
HEADER, ENTRY = 128, 48


def binlog(*words, status=0, **options):
    done = subprocess.run([DRAFTER, "binlog", *words], capture_output=True, text=True, timeout=PATIENCE, **options)
    assert done.returncode == status, (words, done)
    return done.stdout if status == 0 else done.stderr


def record(directory, more=""):
    """Runs a guest of the null VMM for a while, with its memory recorded."""
    devices = "".join(f"[device:{name}]\nbase = {directory}/{name}\n" for name in DEVICES if name != "memory")
    node = Node(directory, "peer", f"[peer]\nvmm = busy\nexposure = null\n[vmm:busy]\nplugin = null\ndirty-rate = 2000\n{devices}"
                f"[device:memory]\nbase = {directory}/memory\nbinlog = {directory}/log\n{more}")
    node.wait("resumed")
    try:
        node.child.wait(0.4)
    except subprocess.TimeoutExpired:
        pass
    node.stop()
    return node


def configure(directory, name, device):
    path = pathlib.Path(directory, f"{name}.ini")
    path.write_text(f"[drafter]\nrole = peer\nname = {name}\nstate-directory = {directory}/s\nrun-directory = {directory}/run\n"
                    f"[peer]\nvmm = null\n[device:memory]\n{device}")
    return path


def replayed(directory, before, after):
    records = [json.loads(line) for line in binlog("print", f"{directory}/log", "--json").splitlines()]
    kinds = {entry["kind"] for entry in records}
    writes = [entry for entry in records if entry["kind"] in ("write", "zero")]
    assert {"read", "write"} <= kinds and len(writes) > 50, (kinds, len(writes))
    assert [entry["time"] for entry in records] == sorted(entry["time"] for entry in records)
    assert f"{len(records) + 1} records\n" in binlog("print", f"{directory}/log")

    copy = pathlib.Path(directory, "copy")
    shutil.copy(before, copy)
    config = configure(directory, "plain", f"base = {copy}\n")
    said = json.loads(binlog("replay", f"{directory}/log", "memory", "--config", config, "--json"))
    assert said["unlike"] == 0 and said["writes"] == len(writes), said
    assert copy.read_bytes() == after.read_bytes()

    config = configure(directory, "overlaid", f"base = {before}\noverlay = {directory}/overlay\nstate = {directory}/map\n")
    binlog("replay", f"{directory}/log", "memory", "1000", "--config", config)
    seen, wanted = bytearray(before.read_bytes()), after.read_bytes()
    with open(f"{directory}/overlay", "rb") as overlay:
        for entry in writes:
            overlay.seek(entry["offset"])
            seen[entry["offset"]:entry["offset"] + entry["length"]] = overlay.read(entry["length"])
    assert bytes(seen) == wanted

    shutil.copy(after, copy)  # reads do not give what they gave then
    config = configure(directory, "plain", f"base = {copy}\n")
    assert "gave other data" in binlog("replay", f"{directory}/log", "memory", "--config", config, status=1)


def real(directory, device):
    """What a Linux guest with redis did, to a file and below two overlays: they hold the same in the end."""
    log = f"{WORKLOAD}/redis-{device}.binlog"
    records = [json.loads(line) for line in binlog("print", log, "--json").splitlines()]
    size = int(binlog("print", log).split()[2])
    for name in "plain", "base":
        with open(f"{directory}/{name}", "wb") as file:
            file.truncate(size)
    one = configure(directory, "plain", f"base = {directory}/plain\n")
    files = f"{directory}/low {directory}/high", f"{directory}/low.map {directory}/high.map"
    two = configure(directory, "overlaid", f"base = {directory}/base\noverlay = {files[0].split()[0]}\nstate = {files[1].split()[0]}\n")
    binlog("replay", log, "memory", "--config", two, status=1)  # reads of the guest's own disk gave other data
    two = configure(directory, "overlaid", f"base = {directory}/base\noverlay = {files[0]}\nstate = {files[1]}\n")
    for config in one, two:
        assert "gave other data" in binlog("replay", log, "memory", "--config", config, status=1)
    whole = subprocess.run([DRAFTER, "check", *files[0].split(), *files[1].split()], capture_output=True, text=True)
    assert whole.returncode == 0, whole
    with open(f"{directory}/plain", "rb") as plain, open(f"{directory}/high", "rb") as overlay:
        for entry in records:
            if entry["kind"] in ("write", "zero"):
                plain.seek(entry["offset"])
                overlay.seek(entry["offset"])
                assert plain.read(entry["length"]) == overlay.read(entry["length"]), entry


def refused(directory):
    log = pathlib.Path(directory, "log")
    whole, bad = log.read_bytes(), pathlib.Path(directory, "bad")
    plain = configure(directory, "plain", f"base = {directory}/copy\n")
    for text, content, status in (
            ("it is no binlog", b"", 2), ("it is no binlog", b"x" * 500, 2), ("it is no binlog", whole[:HEADER - 1], 2),
            ("header is damaged", whole[:20] + b"\1" + whole[21:], 1),
            ("of version 2", whole[:8] + struct.pack("<I", 2) + whole[12:], 1),
            ("record 1, at byte 128, is damaged", whole[:HEADER + 9] + b"\377" + whole[HEADER + 10:], 1),
            ("was not written to its end", whole[:-1], 1), ("record 1, at byte 128, was not written", whole[:HEADER] + bytes(ENTRY), 1)):
        bad.write_bytes(content)
        said = binlog("print", bad, status=status)
        assert text in said and len(said.splitlines()) == 1, (text, said)
        assert text in binlog("replay", bad, "memory", "--config", plain, status=status)
        found = subprocess.run([DRAFTER, "check", bad], capture_output=True, text=True)
        assert ("binlog, " in found.stdout, text in found.stdout) == (status == 1, status == 1), (text, found)
    found = subprocess.run([DRAFTER, "check", log], capture_output=True, text=True)
    assert found.returncode == 0 and "binlog, " in found.stdout and "whole" in found.stdout, found
    assert "it is no file" in binlog("print", directory, status=2)
    assert "takes print FILE" in binlog("show", log, status=2)
    assert "there is no device disk" in binlog("replay", log, "disk", "--config", plain, status=3)
    assert "name a copy" in binlog("replay", log, "memory", "--config", f"{directory}/peer.ini", status=2)
    pathlib.Path(directory, "small").write_bytes(bytes(8192))
    small = configure(directory, "small", f"base = {directory}/small\n")
    assert "this one has 8192" in binlog("replay", log, "memory", "--config", small, status=2)


def limited(directory):
    """The end of a recording is not that of its guest; what is no binlog is not replaced by one."""
    node = record(directory, "binlog-limit = 64k\nbinlog-data = no\n")
    assert "its limit is reached" in node.said()
    size = os.path.getsize(f"{directory}/log")
    assert 60000 < size <= 65536, size
    assert "ended at its limit" in binlog("print", f"{directory}/log")
    shutil.copy(f"{directory}/memory", f"{directory}/log")
    checked = subprocess.run([DRAFTER, "check", "--config", f"{directory}/peer.ini"], capture_output=True, text=True)
    assert checked.returncode == 2 and "is no binlog" in checked.stdout, checked
    node = Node(directory, "peer", pathlib.Path(directory, "peer.ini").read_text().split("\n", 4)[4])
    assert node.child.wait(PATIENCE) == 5 and "is no binlog" in node.said(), node.said()


def main():
    with tempfile.TemporaryDirectory() as directory:
        try:
            for device in "disk", "memory":
                os.mkdir(f"{directory}/{device}-workload")
                real(f"{directory}/{device}-workload", device)
            make_package(directory)
            before, after = pathlib.Path(directory, "before"), pathlib.Path(directory, "memory")
            shutil.copy(after, before)
            record(directory)
            replayed(directory, before, after)
            refused(directory)
            limited(directory)
        finally:
            Node.end_all()


main()
