#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an operator asks of a running node by its control socket: drafter ctl and drafter ps."""

import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from nodelab import DEVICES, PATIENCE, Node, make_package

DRAFTER = os.environ["DRAFTER"]
# What cannot be fetched on demand is not missing when a guest of the null VMM looks.
PLUGINS = "transport = unix\nvmm = null\nexposure = null\ndisable-postcopy-migration = yes\n"
# A move that the guest never lets become small enough to end by itself.
LONG = "max-dirty-blocks = 1\nmin-cycles = 1000\nmax-cycles = 1000\ncycle-throttle = 100ms\n"


def ctl(run, *words, status=0, **options):
    command = subprocess.run([DRAFTER, "ctl", "--run-directory", run, *words], capture_output=True, text=True,
                             timeout=PATIENCE, **options)
    assert command.returncode == status, (words, command)
    return command.stdout if status == 0 else command.stderr


def state(run, *words):
    return json.loads(ctl(run, "status", "--json", *words))


def start(directory, files, more="", limits=""):
    os.makedirs(directory, exist_ok=True)
    devices = "".join(f"[device:{name}]\nbase = {files}/{name}\n{limits}" for name in DEVICES)
    return Node(directory, "peer", f"[peer]\n{PLUGINS}{more}{devices}")


def pull(directory, source, limits=""):
    return start(directory, directory, f"connect = {source}\n", limits)


def looking(node, run):
    assert stat.S_IMODE(os.stat(f"{run}/vm.control").st_mode) == 0o600
    found = state(run)
    assert found["state"] == "running" and found["pid"] == node.child.pid and found["listen"] == "", found
    assert "running" in ctl(run, "status", "--name", "vm")
    rows = json.loads(subprocess.run([DRAFTER, "ps", "--run-directory", run, "--json"], check=True, capture_output=True,
                                     text=True).stdout)
    assert [row["name"] for row in rows] == ["vm"] and rows[0]["state"] == "running", rows
    assert "no drafter runs other" in ctl(run, "status", "--name=other", status=3)
    assert "is not on the move" in ctl(run, "cancel", status=3)
    assert "ctl knows status" in ctl(run, "statsu", status=2)


def hostile(run):
    """What is no request is answered, or the connection ends; the node stays."""
    for words in (b"\n", b"[]\n", b"{}\n", b'{"command": 1}\n', b"{" * 70000, b'{"command":"status"', b"\0\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{run}/vm.control")
            try:
                client.sendall(words)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert answer == b"" or json.loads(answer)["ok"] is False, (words, answer)
    assert state(run)["state"] == "running"


def impatient(run):
    """Whoever waits for a move and hangs up leaves the place to others."""
    clients = [socket.socket(socket.AF_UNIX) for _ in range(16)]
    for client in clients:
        client.connect(f"{run}/vm.control")  # waits for a place in the backlog; with a timeout it would not
        client.sendall(b'{"command":"wait"}\n')
    time.sleep(0.1)
    for client in clients:
        client.close()
    end = time.monotonic() + PATIENCE
    while subprocess.run([DRAFTER, "ctl", "--run-directory", run, "status"], capture_output=True).returncode:
        assert time.monotonic() < end, "the places are taken"
        time.sleep(0.1)


def deaf(run):
    """Asks and asks, and never reads an answer; it must not keep the node from ending."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"{run}/vm.control")
    client.settimeout(0.5)
    try:
        while True:
            client.sendall(b'{"command":"status"}\n' * 100)
    except TimeoutError:
        return client


def metrics(port):
    """The original's names, with figures that are true; whatever else is asked is refused."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = answer.read().decode()
    assert text.endswith("# EOF\n")
    assert 'drafter_peer_vm_running{instance_id="vm"} 1\n' in text, text
    assert 'silo_migrator_total_blocks{instance="vm",device="memory"} 272\n' in text, text  # 17 MiB of 64 KiB
    written = re.search(r'silo_metrics_read_ops{instance="vm",device="state"} (\d+)', text)
    assert written and int(written[1]) > 0, text
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r"[a-zA-Z_]+({[a-z_]+=\"[^\"]*\"(,[a-z_]+=\"[^\"]*\")*})? [0-9.e+]+", line), line
    if shutil.which("promtool"):  # camelCase is the original's; what remains is the syntax
        told = subprocess.run(["promtool", "check", "metrics"], input=text.replace("# EOF\n", ""), capture_output=True, text=True)
        assert told.returncode in (0, 3), told
    for request in (f"http://127.0.0.1:{port}/", urllib.request.Request(f"http://127.0.0.1:{port}/metrics", data=b"x")):
        try:
            urllib.request.urlopen(request, timeout=10)
            raise AssertionError(request)
        except urllib.error.HTTPError as refusal:
            assert refusal.code in (404, 405), refusal


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def suspending(run):
    ctl(run, "suspend")
    assert state(run)["state"] == "suspended"
    assert "suspended already" in ctl(run, "suspend", status=5)
    ctl(run, "resume")
    assert state(run)["state"] == "running"
    assert "not suspended" in ctl(run, "resume", status=5)


def failing(directory):
    """A VM that could neither be saved nor run on is suspended: it can be told to run."""
    run = f"{directory}/failing/run"
    for words in (("suspend",), ("snapshot", directory)):
        node = start(f"{directory}/failing", directory, "[vmm:null]\nplugin = null\nfail-save = 1\nfail-resume = 2\n")
        node.wait("resumed")
        assert "save fails as configured" in ctl(run, *words, status=1)
        assert state(run)["state"] == "suspended"
        ctl(run, "resume")
        assert state(run)["state"] == "running"
        node.stop()
    stopped_while_paused(directory)


def stopped_while_paused(directory):
    """What such a guest knows is saved when the node ends: the next start has it all."""
    run = f"{directory}/failing/run"
    node = start(f"{directory}/failing", directory, "[vmm:null]\nplugin = null\nfail-save = 1\nfail-resume = 2\n")
    node.wait("resumed")
    ctl(run, "suspend", status=1)
    assert '"event":"suspended"' not in node.said()
    ctl(run, "stop")
    assert node.child.wait(PATIENCE) == 0, node.said()
    assert '"event":"suspended"' in node.said(), node.said()
    node = start(f"{directory}/failing", directory)  # the null VMM looks at all of its memory
    node.wait("resumed")
    node.stop()


def without_a_vm(directory):
    """Devices that a mounter shows are copied and handed on, and there is nothing to suspend."""
    os.makedirs(f"{directory}/mounter")
    node = Node(f"{directory}/mounter", "mounter", "[mounter]\ntransport = unix\nexposure = null\n" +
                "".join(f"[device:{name}]\nbase = {directory}/{name}\n" for name in DEVICES))
    node.wait("mounted")
    assert "has no VM here" in ctl(f"{directory}/mounter/run", "suspend", status=2)
    node.stop()


def of_a_registry(directory):
    """It counts its clients, and with a peer beside it the peer is meant where no name says whom."""
    os.makedirs(f"{directory}/registry")
    os.makedirs(f"{directory}/pulled")
    run = f"{directory}/registry/run"
    node = Node(f"{directory}/registry", "registry", f"name = hub\n[registry]\ntransport = unix\nlisten = {directory}/hub\n" +
                "".join(f"[device:{name}]\nbase = {directory}/{name}\n" for name in DEVICES))
    node.wait("control")
    found = state(run)
    assert found["role"] == "registry" and found["listen"] == f"{directory}/hub" and found["clients"] == 0, found
    assert [device["name"] for device in found["devices"]] == list(DEVICES), found
    puller = start(f"{directory}/registry", f"{directory}/pulled", f"connect = {directory}/hub\n")
    puller.wait("arrived")
    node.wait("pulled")
    assert state(run)["name"] == "vm"
    found = state(run, "--name", "hub")
    assert (found["clients"], found["pulled"], found["failed"]) == (0, 1, 0), found
    assert "pulled     1" in ctl(run, "status", "--name", "hub")
    assert re.search("hub +registry +running +[0-9]+ +- ", subprocess.run([DRAFTER, "ps", "--run-directory", run], check=True,
                                                                         capture_output=True, text=True).stdout)
    puller.stop()
    assert "it knows status and stop" in ctl(run, "suspend", status=2)
    ctl(run, "stop")
    assert node.child.wait(PATIENCE) == 0 and os.listdir(run) == [], (node.said(), os.listdir(run))


def snapshotting(directory, run):
    copy = pathlib.Path(directory, "copy")
    copy.mkdir()
    assert "paused_ms" in ctl(run, "snapshot", "copy", cwd=directory)
    assert sorted(os.listdir(copy)) == sorted(DEVICES)
    assert state(run)["state"] == "running"
    clone = start(f"{directory}/clone", copy)  # the null VMM looks at all of its memory
    clone.wait("resumed")
    clone.stop()
    before = {name: os.stat(f"{directory}/{name}").st_ino for name in DEVICES}
    assert "runs from this file" in ctl(run, "snapshot", directory, status=5)
    assert before == {name: os.stat(f"{directory}/{name}").st_ino for name in DEVICES}
    assert "No such file" in ctl(run, "snapshot", "nowhere", status=3, cwd=directory)


def cancelling(directory, run):
    """A VM becomes migratable while it runs; a move that does not converge is called off; nobody else comes in."""
    ctl(run, "migratable", f"{directory}/door")
    assert state(run)["listen"] == f"{directory}/door"
    assert "already" in ctl(run, "migratable", f"{directory}/other", status=5)
    puller = pull(f"{directory}/puller", f"{directory}/door")
    deadline = time.monotonic() + PATIENCE
    while "migration" not in state(run):
        assert puller.child.poll() is None and time.monotonic() < deadline, puller.said()
        time.sleep(0.1)
    found = state(run)
    migration = found["migration"]
    assert found["state"] == "leaving" and migration["total_bytes"] > 16 << 20, found
    assert migration["convergence"] in ("converging", "not converging"), found
    assert "being handed over" in ctl(run, "suspend", status=5)
    ctl(run, "cancel")
    assert puller.child.wait(PATIENCE) not in (0, None)
    while state(run)["state"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ctl(run, "migratable", "--off")
    assert state(run)["listen"] == "" and not os.path.exists(f"{directory}/door")
    late = pull(f"{directory}/late", f"{directory}/door")
    assert late.child.wait(PATIENCE) == 6 or "door" in late.said()


def heard(directory):
    return pathlib.Path(directory, "heard").read_text().split("\n")[:-1]


def moving(directory, node, run):
    mover = subprocess.Popen([DRAFTER, "ctl", "--run-directory", run, "migrate", f"{directory}/door"],
                             stdout=subprocess.PIPE, text=True)
    assert mover.stdout.readline() == f"waiting for a peer that connects to {directory}/door\n"
    target = start(f"{directory}/target", f"{directory}/target", f"connect = {directory}/door\nhook = {directory}/hook\n")
    said = mover.communicate(timeout=PATIENCE)[0]
    assert mover.returncode == 0 and said.endswith("moved\n"), said
    assert node.child.wait(PATIENCE) == 0, node.said()
    assert not os.path.exists(f"{run}/vm.control")
    target.wait("arrived")
    # What the two hooks heard, each in its order.
    assert [word for word in heard(f"{directory}/source") if word != "after-resume vm"] == [
        "devices-ready vm", "before-suspend vm", "after-suspend vm", "moved vm"], heard(f"{directory}/source")
    ctl(f"{directory}/target/run", "stop")
    assert target.child.wait(PATIENCE) == 0, target.said()
    assert '"event":"suspended"' in target.said()
    assert sorted(heard(f"{directory}/target")) == ["after-resume vm", "arrived vm", "devices-ready vm"], heard(f"{directory}/target")


def main():
    with tempfile.TemporaryDirectory() as directory:
        try:
            tour(directory)
        finally:
            Node.end_all()


def tour(directory):
    make_package(directory)
    run = f"{directory}/source/run"
    port = free_port()
    node = start(f"{directory}/source", directory, f"metrics = 127.0.0.1:{port}\n", LONG)
    node.wait("resumed")
    looking(node, run)
    metrics(port)
    hostile(run)
    impatient(run)
    suspending(run)
    snapshotting(directory, run)
    cancelling(directory, run)
    client = deaf(run)
    node.stop()
    client.close()
    failing(directory)
    without_a_vm(directory)
    of_a_registry(directory)
    hook = pathlib.Path(directory, "hook")
    hook.write_text("#!/bin/sh\necho \"$1 $2\" >>heard\n")
    hook.chmod(0o700)
    node = start(f"{directory}/source", directory, f"hook = {hook}\n")
    node.wait("resumed")
    moving(directory, node, run)


main()
