#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Packages and other tools: tar and Python read ours, ours reads theirs, and nothing but what was named is written."""

import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

DRAFTER = os.environ["DRAFTER"]
DEVICES = {"state": 70_001, "memory": 9 << 20, "kernel": 1 << 20, "disk": 3_333_333, "config": 21, "oci": 0}


def run(*words, status=0, role="packager"):
    done = subprocess.run([DRAFTER, *([role] if role else []), *map(str, words)], capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def listing(directory, names=DEVICES):
    return json.dumps([{"name": name, "path": f"{directory}/{name}"} for name in names])


def make(directory):
    rng = random.Random(7)
    directory.mkdir()
    for name, size in DEVICES.items():
        data = bytearray(size)
        data[: size // 3] = rng.randbytes(size // 3)
        (directory / name).write_bytes(data)


def same(one, other, names=DEVICES):
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def entries(*command):
    with subprocess.Popen(command, stdout=subprocess.PIPE) as plain:
        with tarfile.open(fileobj=plain.stdout, mode="r|") as archive:
            return {entry.name: archive.extractfile(entry).read() for entry in archive}


def ours_is_read_by_others(lab):
    run("-devices", listing(lab / "in"), "-package-path", lab / "out/app.tar.zst")
    found = entries("zstd", "-dc", lab / "out/app.tar.zst")
    assert list(found)[: len(DEVICES)] == list(DEVICES), "the devices come first, in their order"
    for name in DEVICES:
        assert found[name] == (lab / "in" / name).read_bytes(), name
    (lab / "gnu").mkdir()
    subprocess.run(["tar", "--zstd", "-xf", lab / "out/app.tar.zst", "-C", lab / "gnu", "--no-same-owner"], check=True)
    same(lab / "in", lab / "gnu")
    print("ok: tar, zstd and Python read it", flush=True)


def in_any_order(lab):
    names = sorted(DEVICES, reverse=True)
    run("-extract", "-devices", listing(lab / "back", names), "--package-path", lab / "out/app.tar.zst")
    same(lab / "in", lab / "back")
    for form, words in {"plain.tar": [], "gnu.tar.zst": ["--zstd"], "sparse.tar.zst": ["--zstd", "-S"],
                        "pax.tar.gz": ["-z", "--format=pax", "-S"]}.items():
        subprocess.run(["tar", "-C", lab / "in", "-cf", lab / form, *words, *DEVICES], check=True)
        out = lab / ("of-" + form)
        run("-extract", "-devices", listing(out, names), "-package-path", lab / form)
        same(lab / "in", out)
    print("ok: every kind of archive is taken out, in any order", flush=True)


def nothing_else_is_written(lab):
    evil = lab / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        for name, kind in (("../escaped", tarfile.REGTYPE), ("/tmp/drafter-escaped", tarfile.REGTYPE),
                           ("disk", tarfile.SYMTYPE), ("memory", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, 0 if kind == tarfile.SYMTYPE else 4
            entry.linkname = "/etc/passwd"
            archive.addfile(entry, io.BytesIO(b"evil"))
    out = lab / "evil"
    run("-extract", "-devices", listing(out, ["memory"]), "-package-path", evil)
    assert [path.name for path in out.iterdir()] == ["memory"]
    said = run("-extract", "-devices", listing(out, ["disk"]), "-package-path", evil, status=1)
    assert "disk is no file" in said, said
    assert not (lab / "escaped").exists() and not pathlib.Path("/tmp/drafter-escaped").exists()
    said = run("-extract", "-devices", listing(lab / "none", ["disk", "other"]), "-package-path", lab / "out/app.tar.zst",
               status=3)
    assert "has no device other" in said and not list((lab / "none").iterdir()), said
    data = (lab / "gnu.tar.zst").read_bytes()
    (lab / "short.tar.zst").write_bytes(data[: len(data) - 9999])
    run("-extract", "-devices", listing(lab / "none", ["kernel", "disk"]), "-package-path", lab / "short.tar.zst", status=1)
    assert not list((lab / "none").iterdir()), "a truncated archive leaves nothing"
    print("ok: only what was named is written, and only whole", flush=True)


def signatures(lab):
    package, trust = lab / "signed.tar.zst", lab / "trust.ini"
    words = ["-devices", listing(lab / "in"), "-package-path", package, "--trust", trust]
    key = json.loads(run("keygen", lab / "key", "--json", role=None))["identity"]
    run(*words, "-sign", lab / "key.key")
    trust.write_text("[key:other]\nidentity = sha256:" + "A" * 43 + "=\nmay = registry\n")
    said = run("-extract", *words, status=4)
    assert "signed by " + key in said, said
    trust.write_text(f"[key:maker]\nidentity = {key}\nmay = registry\n")
    run("-extract", *words, "-signature", "require")
    trust.write_text(f"[key:maker]\nidentity = {key}\nmay = pull\n")
    run("-extract", *words, status=4)
    run("-extract", "-devices", listing(lab / "in"), "-package-path", lab / "out/app.tar.zst", "-signature", "require",
        status=4)
    print("ok: who signed a package decides whether it is opened", flush=True)


def no_room(lab):
    """A full disk: one line, and what was there before."""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1500k none "$1" && cp "$3" "$1/app" && '
                           'sum=$(cksum <"$1/app"); "$0" packager -devices "$2" -package-path "$1/app"; echo $?; '
                           'ls -A "$1"; test "$sum" = "$(cksum <"$1/app")" && echo kept', DRAFTER, lab / "full",
                           listing(lab / "in"), lab / "in/state"], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        print("(no mount namespaces here: a full disk was not tried)", flush=True)
        return
    assert done.stdout.split() == ["1", "app", "kept"] and "No space left" in done.stderr, (done.stdout, done.stderr)
    print("ok: a full disk leaves the package that was there", flush=True)


def ended_early(lab):
    """SIGINT and SIGKILL in the middle: nothing under the final name, nothing beside it."""
    (lab / "cut").mkdir()
    (lab / "in/large").write_bytes(random.Random(1).randbytes(64 << 20))
    for number, status in ((signal.SIGINT, 7), (signal.SIGKILL, -9)):
        words = [DRAFTER, "packager", "-level", "19", "-devices", listing(lab / "in", ["large"]), "-package-path",
                 lab / "cut/app.tar.zst", "-progress", "json"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as child:
            time.sleep(0.5)
            child.send_signal(signal.SIGUSR1)
            progress = json.loads(child.stderr.readline())
            assert 0 < progress["done"] < progress["total"] == 64 << 20 and progress["eta_seconds"] > 0, progress
            child.send_signal(number)
            child.stderr.read()
            assert child.wait() == status, child.returncode
        assert not list((lab / "cut").iterdir()), list((lab / "cut").iterdir())
    print("ok: SIGUSR1 tells how far it is; who is killed leaves nothing", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="drafter-package-") as directory:
        lab = pathlib.Path(directory)
        (lab / "full").mkdir()
        make(lab / "in")
        for test in (ours_is_read_by_others, in_any_order, nothing_else_is_written, signatures, no_room, ended_early):
            test(lab)


sys.exit(main())
