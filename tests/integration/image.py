#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`drafter image`: an image is unpacked, edited and packed, with the same bytes whoever does it; and no image reaches out of
its bundle, fills the disk, or leaves half of anything."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

DRAFTER = os.environ["DRAFTER"]
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
SOMEBODY = 65534


def check(condition, text):
    if not condition:
        print(f"FAILED: {text}", flush=True)
        sys.exit(1)
    print(f"ok: {text}", flush=True)


def entry(name, data=None, uid=0, gid=0, mode=None, link=None, capability=None, **more):
    """An entry of a layer: a directory where there is no data, or what `link` or more say."""
    info = tarfile.TarInfo(name)
    info.type = more.get("type", tarfile.SYMTYPE if link else tarfile.REGTYPE if data is not None else tarfile.DIRTYPE)
    info.mode = mode if mode is not None else 0o755 if info.type == tarfile.DIRTYPE else 0o644
    info.uid, info.gid, info.mtime, info.linkname = uid, gid, 1000000000, link or ""
    info.devmajor, info.devminor = 1, 3
    info.size = more.get("size", len(data or b""))
    if capability:
        info.pax_headers["SCHILY.xattr.security.capability"] = capability.decode("latin-1")
    return info, data


def pack_layer(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="latin-1") as tar:
        for info, data in entries:
            if info.size > len(data or b""):
                out.write(info.tobuf(tarfile.GNU_FORMAT))  # it promises what does not follow
                return gzip.compress(out.getvalue(), mtime=0)
            tar.addfile(info, io.BytesIO(data or b""))
    return gzip.compress(out.getvalue(), mtime=0)


class Layout:
    """An OCI layout, written by hand, for a real one could not be as wrong."""

    def __init__(self, path, *layers, config=None):
        self.path = pathlib.Path(path)
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        blobs = [self.blob(layer if isinstance(layer, bytes) else pack_layer(layer), "layer.v1.tar+gzip")
                 for layer in layers]
        inner = [hashlib.sha256(self.content(b)).hexdigest() for b in blobs]
        image = {"architecture": "amd64", "os": "linux", "created": "2001-09-09T01:46:40Z",
                 "config": {"Entrypoint": ["/bin/service"], **(config or {})},
                 "rootfs": {"type": "layers", "diff_ids": [f"sha256:{i}" for i in inner]}}
        manifest = {"schemaVersion": 2, "config": self.blob(json.dumps(image).encode(), "config.v1+json"), "layers": blobs}
        index = self.blob(json.dumps(manifest).encode(), "manifest.v1+json")
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))

    def content(self, blob):
        try:
            return gzip.decompress(self.file(blob).read_bytes())
        except (EOFError, OSError):
            return b""

    def file(self, blob):
        return self.path / "blobs/sha256" / blob["digest"].split(":")[1]

    def blob(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def drafter(*words, user=None, environment=None):
    if words[0] in ("pack", "build") and not {"--free", "--size"} & set(words):
        words += "--free", "8M"
    return subprocess.run([DRAFTER, "image", *map(str, words)], capture_output=True, text=True, timeout=100, user=user,
                          env={**os.environ, **(environment or {})})


def works(*words, **more):
    done = drafter(*words, **more)
    check(done.returncode == 0, f"drafter image {words[0]} works {done.stderr if done.returncode else ''}")
    return done


def refused(directory, status, text, *words, **more):
    """It fails so, in one line that says why, and leaves what was there and nothing else."""
    before = sorted(directory.iterdir())
    done = drafter(*words, **more)
    errors = [line for line in done.stderr.splitlines() if '"level":"error"' in line]
    check(done.returncode == status and len(errors) == 1 and text in errors[0],
          f"{words[0]} is refused: \"{text}\", not {done.returncode} {done.stderr}" if done.returncode != status
          or text not in done.stderr else f"{words[0]} is refused: \"{text}\"")
    check(sorted(directory.iterdir()) == before, "nothing is left of it")


def debugfs(image, request):
    return subprocess.run(["debugfs", "-R", request, str(image)], capture_output=True, text=True,
                          env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}).stdout


def stat(image, path):
    """Mode, owner, and whether there is a capability."""
    text = debugfs(image, f"stat rootfs/{path}")
    words = text.split()
    if "Mode:" not in words:
        return None
    return words[words.index("Mode:") + 1], int(words[words.index("User:") + 1]), int(words[words.index("Group:") + 1]), \
        "security.capability (20)" in text


def sum_of(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def check_whole(image):
    done = subprocess.run(["/usr/sbin/e2fsck", "-fn", str(image)], capture_output=True, text=True)
    check(done.returncode == 0, f"the file system is whole {done.stdout if done.returncode else ''}")


ODD = "odd name\n\"quoted\" \\ \x01"


def usual_layers():
    base = [entry("./"), entry("bin"), entry("bin/service", b"#!", mode=0o755), entry("bin/ping", b"ping", mode=0o755,
            capability=CAPABILITY), entry("data", uid=999, gid=998), entry("data/file", b"x" * 10000, 999, 998),
            entry("data/link", uid=5, gid=6, link="/etc/passwd"), entry("gone", b"", 7, 7), entry("secret", b"s", mode=0),
            entry("closed", mode=0o500, uid=100000, gid=100001), entry("closed/in", b"in"), entry(ODD, b"odd", 3, 4),
            entry("null", type=tarfile.CHRTYPE, mode=0o666), entry("etc"), entry("etc/passwd", b"svc:x:42:43::/:/bin/sh\n"),
            entry("owner", b"first", 11, 11), entry("data/same", link="data/file", type=tarfile.LNKTYPE, uid=999, gid=998),
            entry("data/far", link="/" + 70 * "far/"), entry("pipe", type=tarfile.FIFOTYPE, mode=0o622),
            entry("sticky", mode=0o1777), entry("data/sparse", bytes(3 << 20) + b"end"), entry("su", b"", mode=0o4755)]
    return base, [entry(".wh.gone", b""), entry("owner", b"then", 12, 13)]


def test_round_trip(directory):
    layout = Layout(directory / "usual", *usual_layers(), config={"User": "svc", "Env": ["A=B"]}).path
    bundle, disk = directory / "bundle", directory / "disk"
    works("unpack", layout, bundle, "--ready-port", "6379", "--hostname=box")
    check(sorted(p.name for p in bundle.iterdir()) == ["config.json", "owners", "rootfs"], "a bundle is all that there is")
    config = json.loads((bundle / "config.json").read_text())
    check(config["process"]["user"] == {"uid": 42, "gid": 43} and "A=B" in config["process"]["env"], "the image's settings")
    check(not config["process"]["terminal"] and config["hostname"] == "box", "no terminal, and the name")
    check("network" not in [n["type"] for n in config["linux"]["namespaces"]], "the guest's network")
    check("/etc/resolv.conf" in [m["destination"] for m in config["mounts"]], "the guest's resolver")
    check("user" not in [n["type"] for n in config["linux"]["namespaces"]], "root in the guest is root")
    check((bundle / "rootfs/secret").read_bytes() == b"s", "what the image hides can be read here")
    works("pack", bundle, disk)
    check_whole(disk)
    check(stat(disk, "data/file") == ("0644", 999, 998, False), "files have the image's owners")
    check(stat(disk, "data/link")[1:3] == (5, 6), "links too")
    check(stat(disk, "bin/ping") == ("0755", 0, 0, True), "capabilities are there")
    check(stat(disk, "secret") == ("0000", 0, 0, False) and stat(disk, "closed")[:3] == ("0500", 100000, 100001),
          "modes are the image's")
    check(stat(disk, "owner")[1:3] == (12, 13), "the last layer counts")
    check(stat(disk, "gone") is None and stat(disk, "null") is None, "what was deleted is not there, and no device")
    check("/3/4/odd name\n" in debugfs(disk, "ls -p rootfs").replace("100644", ""), "an odd name is a name")
    return layout, bundle, disk


def test_edited(directory, bundle, disk):
    first = sum_of(disk)
    works("pack", bundle, disk)
    check(sum_of(disk) == first, "the same bundle gives the same bytes")
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["env"].append("EDITED=yes")
    (bundle / "config.json").write_text(json.dumps(config))
    (bundle / "rootfs/data/new").write_bytes(b"new")
    (bundle / "rootfs/data/file").write_bytes(b"shorter")
    (bundle / "rootfs/owner").unlink()
    with open(bundle / "owners", "a") as owners:
        owners.write("999 998 0600 - data/new\n")
    works("pack", bundle, directory / "edited", "--size", "40M")
    check_whole(directory / "edited")
    check(os.path.getsize(directory / "edited") == 40 << 20, "it is as large as asked for")
    check("EDITED=yes" in debugfs(directory / "edited", "cat config.json"), "settings are the edited ones")
    check(stat(directory / "edited", "data/new") == ("0600", 999, 998, False), "an added file has the owner it was given")
    check(stat(directory / "edited", "data/file")[1] == 999, "a changed one has kept its own")
    check(stat(directory / "edited", "owner") is None, "a deleted one is gone")


def test_disk(directory, disk):
    """A disk is unpacked as an image is, and packed again it is what it was."""
    back = directory / "back"
    works("unpack", disk, back)
    check((back / "rootfs/data/file").stat().st_nlink == 2 and (back / "rootfs/data/file").read_bytes() == b"x" * 10000,
          "the disk's files are there")
    check((back / "rootfs/data/sparse").stat().st_blocks * 512 < 100000, "holes are holes")
    works("pack", back, directory / "again")
    check(sum_of(directory / "again") == sum_of(disk), "packed again, it has the same bytes")
    works("pack", back, directory / "again", "--free", "1M")
    shutil.rmtree(back)
    whole = bytearray((directory / "again").read_bytes())
    random.seed(1)
    for _ in range(12):
        damaged = bytearray(whole)
        for _ in range(300):
            damaged[random.randrange(1024, 2 << 20)] ^= 1 << random.randrange(8)
        (directory / "again").write_bytes(damaged)
        done = drafter("unpack", directory / "again", back)
        if done.returncode < 0 or done.returncode > 8 or "Sanitizer" in done.stderr:
            check(False, f"a damaged disk ends in {done.returncode}: {done.stderr}")
        shutil.rmtree(back, ignore_errors=True)
    check(not [p for p in directory.iterdir() if ".part-" in p.name], "no damage to a disk is more than an error")
    refused(directory, 1, "--max-size", "unpack", disk, back, "--max-size", "1M")


def reachable(path):
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def test_somebody_else(directory, layout):
    """What root makes, anybody can make."""
    if not reachable(pathlib.Path(DRAFTER)) or not reachable(directory.parent):
        print(f"left out: only root can reach {DRAFTER} or {directory.parent}")
        return
    place = directory / "place"
    place.mkdir()
    os.chown(place, SOMEBODY, SOMEBODY)
    os.chmod(directory, 0o755)
    works("build", layout, place / "theirs", user=SOMEBODY)
    works("build", layout, place / "ours")
    check(sum_of(place / "theirs") == sum_of(place / "ours"), "the bytes do not depend on who builds")
    check(sorted(p.name for p in place.iterdir()) == ["ours", "theirs"], "and nothing else is left")


def test_hostile(directory):
    outside = directory / "outside"
    outside.mkdir()
    bad = directory / "bad"
    (directory / "file").write_bytes(b"kept")

    def image(*layers):
        shutil.rmtree(bad, ignore_errors=True)
        return Layout(bad, *layers)

    def refuses(text, *layers, status=2, words=()):
        image(*layers)
        refused(directory, status, text, "build", bad, directory / "file", *words)
        check((directory / "file").read_bytes() == b"kept", "and the old file is as it was")

    refuses("leads outside", [entry("../outside/evil", b"evil")])
    refuses("leads outside", [entry("a/../../outside/evil", b"evil")])
    refuses("--max-size", [entry("huge", b"", size=1 << 50)], status=1)
    refuses("--max-size", [entry("a", b"x" * 600000)], [entry("b", b"x" * 600000)], status=1, words=("--max-size", "1M"))
    refuses("file too large", [entry("a", os.urandom(2 << 20))], status=1, words=("--max-size", "1M"))
    refuses("umoci: ", [entry("cut", b"", size=100)], status=1)
    refuses("layer sha256:", b"no archive at all")
    image([entry("a", b"x")])
    layer = max((bad / "blobs/sha256").iterdir(), key=lambda p: p.read_bytes()[:2] == b"\x1f\x8b")
    layer.write_bytes(pack_layer([entry("a", b"y")]))
    refused(directory, 1, "skopeo: ", "build", bad, directory / "file")

    # What a link leads to is another layer's directory, and neither is ours.
    image([entry("esc", link=str(outside)), entry("up", link="../../../../../../../.." + str(outside)),
           entry("bin"), entry("bin/service", b"")],
          [entry("esc/evil", b"evil"), entry("up/evil", b"evil"), entry("up/device", type=tarfile.CHRTYPE)])
    (outside / "device").write_bytes(b"")
    drafter("unpack", bad, directory / "escaped")
    check(sorted(p.name for p in outside.iterdir()) == ["device"], "no link leads out of the bundle")
    shutil.rmtree(directory / "escaped", ignore_errors=True)


def test_unpadded(directory):
    """A layer may end with the last byte of its last file."""
    layer = pack_layer([entry("bin"), entry("bin/service", b"#!", uid=9)])
    layer = gzip.compress(gzip.decompress(layer)[:2 * 512 + 2], mtime=0)
    works("build", Layout(directory / "unpadded", layer).path, directory / "disk")
    check(stat(directory / "disk", "bin/service")[1] == 9, "an archive without an end has its files")


def test_usage(directory, layout, bundle):
    refused(directory, 5, "exists", "unpack", layout, bundle)
    refused(directory, 3, "nothing-here", "unpack", directory / "nothing-here", directory / "new")
    refused(directory, 1, "skopeo: ", "unpack", "oci:" + str(bundle), directory / "new")
    refused(directory, 2, "a colon", "unpack", layout, directory / "a:b")
    refused(directory, 2, "write: drafter image", "unpack", layout)
    refused(directory, 2, "write: drafter image", "mount", layout, bundle)
    refused(directory, 2, "did you mean --hostname", "unpack", layout, directory / "new", "--hostnam", "x")
    refused(directory, 2, "cannot be one", "unpack", layout, directory / "new", "--hostname", "a b")
    refused(directory, 3, "skopeo is missing: apt-get install skopeo", "unpack", layout, directory / "new",
            environment={"PATH": "/nonexistent"})
    refused(directory, 2, "--size", "pack", bundle, directory / "new", "--size", "1M")
    os.mkfifo(directory / "fifo")
    refused(directory, 2, "is no file", "pack", bundle, directory / "fifo")
    check((directory / "fifo").is_fifo(), "and what is no file is as it was")
    refused(directory, 3, "rootfs", "pack", layout, directory / "new")
    for text, why in ("{", "config.json:1"), ("[]", "no object"), ('{"root": {"path": "/"}}', "root.path"), \
            ('{"root": {"path": "rootfs"}}', "nothing to run"):
        (bundle / "config.json").write_text(text)
        refused(directory, 2, why, "pack", bundle, directory / "new")
    (bundle / "config.json").write_text('{"root": {"path": "rootfs"}, "process": {"args": ["x"]}}')
    for line in "0 0 - -", "0 0 9 - a", "-1 0 - - a", "0 0 - abc a", "0 0 - - ../a", "0 0 - - \\9", "4294967295 0 - - a", "x":
        (bundle / "owners").write_text(f"# comment\n{line}\n")
        refused(directory, 2, "owners:2", "pack", bundle, directory / "new")


def test_interrupted(directory, layout):
    """A skopeo that never ends is ended, with what it has started."""
    tools = directory / "tools"
    tools.mkdir()
    (tools / "skopeo").write_text(f"#!/bin/sh\nsleep 100 &\necho $! >{tools}/pid\nmv {tools}/pid {tools}/started\nwait\n")
    (tools / "skopeo").chmod(0o755)
    before = sorted(directory.iterdir())
    child = subprocess.Popen([DRAFTER, "image", "build", layout, directory / "never"], stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
    deadline = time.monotonic() + 50
    while not (tools / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1]
    process = pathlib.Path("/proc", (tools / "started").read_text().strip(), "stat")
    while process.exists() and " Z " not in process.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    check(not process.exists() or " Z " in process.read_text(), "what it had started has ended")
    check(child.returncode == 7 and "interrupted" in said, f"SIGTERM ends it {said if child.returncode != 7 else ''}")
    check(sorted(directory.iterdir()) == before, "nothing is left of it")


def main():
    for tool in "skopeo", "umoci":
        if not shutil.which(tool):
            print(f"skipped: {tool} is not installed")
            sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="drafter-image-") as name:
        directory = pathlib.Path(name)
        layout, bundle, disk = test_round_trip(directory)
        test_disk(directory, disk)
        test_edited(directory, bundle, disk)
        if os.geteuid() == 0:
            test_somebody_else(directory, layout)
        test_hostile(directory)
        test_unpadded(directory)
        test_usage(directory, layout, bundle)
        test_interrupted(directory, layout)


main()
