#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A package as the original's snapshotter and packager write it, to the byte, runs in Firecracker, in each way of mapping its memory, moves, and is saved."""

import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import drafterlab
import firecrackerlab
from drafterlab import FILES, check

MEMORY = 32
PADDING = 1 << 20


def pad(path):
    """Whole MiB, and at least one to spare."""
    size = os.path.getsize(path)
    more = PADDING - size % PADDING
    os.truncate(path, size + (more + PADDING if more < PADDING else more))


def snapshot(lab, directory):
    """What the original's snapshotter does, in its order, without jail and agent."""
    os.makedirs(directory)
    shutil.copy(lab.guest_kernel(), f"{directory}/kernel")
    program = firecrackerlab.find("DRAFTER_TEST_FIRECRACKER", "firecracker")
    serial = open(f"{directory}/serial", "w")
    child = lab.spawn([os.path.abspath(program), "--api-sock", "firecracker.sock"], cwd=directory, stdout=serial, stderr=serial)
    lab.eventually(lambda: os.path.exists(f"{directory}/firecracker.sock"), "Firecracker has its socket")
    api = firecrackerlab.Api(f"{directory}/firecracker.sock")
    api.call("PUT", "/boot-source", kernel_image_path="kernel", boot_args=lab.guest_append(firecrackerlab.BUSY))
    api.call("PUT", "/machine-config", vcpu_count=1, mem_size_mib=MEMORY)
    api.call("PUT", "/vsock", guest_cid=3, uds_path="vsock.sock")
    api.call("PUT", "/actions", action_type="InstanceStart")
    lab.eventually(lambda: "HB" in pathlib.Path(serial.name).read_text(errors="replace"), "the guest runs")
    api.call("PATCH", "/vm", state="Paused")
    api.call("PUT", "/snapshot/create", snapshot_type="Full", snapshot_path="state", mem_file_path="memory")
    child.kill()
    child.wait()
    pathlib.Path(f"{directory}/config").write_bytes(b'{"agentVSockPort":26}')
    for device in FILES:
        pad(f"{directory}/{device}")


def pack(lab, directory):
    """Entries have the devices' names, in one zstd stream."""
    package = lab.path("app.tar")
    with tarfile.open(package, "w") as archive:
        for device in FILES:
            archive.add(f"{directory}/{device}", arcname=device)
    subprocess.run(["zstd", "-q", "--rm", package], check=True)
    return package + ".zst"


def unpack(lab, package):
    directory = lab.path("unpacked")
    devices = json.dumps([{"name": name, "path": f"{directory}/{file}"} for name, file in FILES.items()])
    subprocess.run([drafterlab.DRAFTER, "packager", "-extract", "-devices", devices, "-package-path", package], check=True)
    return directory


def private(lab, package):
    """As with --experimental-map-private and its two outputs: the package stays as it is, and the outputs go on."""
    before, out = lab.digest(package), lab.path("out")
    options = {"listen": None, "hook_timeout": "100ms"}
    beats = lab.heartbeats("p", "q")
    p = lab.peer("p", package, copy=False, vmm={"map_private": True},
                 devices={d: {"save_output": f"{out}/{FILES[d]}"} for d in ("state", "memory")}, **options)
    beats.wait("beat", "p", drafterlab.PATIENCE)
    beats.goes_on("p")
    check(p.stop() == 0, "a VM whose memory is mapped privately is saved")
    check(lab.digest(package) == before, "its package is as before")
    for device in ("kernel", "config"):
        shutil.copy(f"{package}/{FILES[device]}", out)
    q = lab.peer("q", out, copy=False, **options)
    beats.verified("q")
    report = beats.report()
    drafterlab.continuous(report)
    drafterlab.intact(report)
    check(q.stop() == 0, "the outputs are that VM")


def test(lab):
    made = lab.path("made")
    snapshot(lab, made)
    package = unpack(lab, pack(lab, made))
    private(lab, package)
    beats = lab.heartbeats("a", "b")
    # Its guest has no agent, although its config says so.
    options = {"hook_errors": "ignore", "hook_timeout": "300ms"}
    a = lab.peer("a", package, **options)
    beats.wait("beat", "a", drafterlab.PATIENCE)
    said = [m for m in a.messages("info") if "its package does not say what saved it" in m]
    check(said and f"{MEMORY} MiB" in said[0], f"the padding is not taken for memory: {said}")
    b = lab.peer("b", connect=a, memory_size=f"{MEMORY}M", **options)
    b.wait("arrived")
    check(a.exited() == 0, "a handed over and ended with 0")
    beats.verified("b")
    report = beats.report()
    drafterlab.continuous(report)
    drafterlab.intact(report)
    check(b.stop() == 0, "b saves the VM and ends with 0")
    again = lab.peer("b", b.directory, copy=False, **options)
    beats = lab.heartbeats(again)
    beats.goes_on("b")
    check(again.stop() == 0, "what was saved runs, and is saved")


firecrackerlab.main(test)
