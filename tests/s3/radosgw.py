# SPDX-License-Identifier: BSD-2-Clause
"""A real S3 server: one radosgw over one ceph-osd and one ceph-mon, all on loopback and below one directory.

Memory holds what is stored.  Needs root, as the daemons want to open their files as somebody.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
PATIENCE = 120
STORED = 3 << 30  # bytes that fit

CONFIG = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {directory}/keyring
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
pid file = {directory}/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd max pg per osd hard ratio = 100
mon allow pool size one = true
mon data = {directory}/mon
mon data avail warn = 0
mon data avail crit = 0
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = {stored}
rgw data = {directory}
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 32
"""


def missing():
    return [name for name in PROGRAMS if not shutil.which(name)]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Radosgw:
    """Use it with `with`; `port` is the service's.  What it started it ends, by id, whatever happened."""

    def __init__(self, directory, access, secret):
        self.directory, self.daemons = pathlib.Path(directory), []
        self.access, self.secret = access, secret
        self.port, self.mon, self.mon1 = free_ports(3)
        self.fsid = str(uuid.uuid4())

    def run(self, *words, data=None):
        done = subprocess.run(words, input=data, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout} {done.stderr}"
        return done.stdout

    def with_config(self, program, *words, data=None):
        return self.run(program, "-c", self.config, *words, data=data)

    def start(self, program, *words):
        with open(self.directory / f"{program}.out", "w") as output:
            self.daemons.append(subprocess.Popen(
                [program, "-c", self.config, "-f", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output))

    def write_config(self):
        self.config = str(self.directory / "ceph.conf")
        pathlib.Path(self.config).write_text(CONFIG.format(
            fsid=self.fsid, mon=self.mon, mon1=self.mon1, port=self.port, directory=self.directory, stored=STORED))
        everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        for name in ("mon.", "client.admin", "client.rgw", "osd.0"):
            create = () if name != "mon." else ("--create-keyring",)
            self.run("ceph-authtool", f"{self.directory}/keyring", *create, "--gen-key", "-n", name, *everything)

    def start_store(self):
        monmap = f"{self.directory}/monmap"
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a",
                 f"[v2:127.0.0.1:{self.mon},v1:127.0.0.1:{self.mon1}]", monmap)
        for name in ("mon", "osd"):
            (self.directory / name).mkdir()
        self.with_config("ceph-mon", "--id", "a", "--mkfs", "--monmap", monmap, "--keyring", f"{self.directory}/keyring")
        self.start("ceph-mon", "--id", "a")
        osd = str(uuid.uuid4())
        self.with_config("ceph", "--connect-timeout", "60", "osd", "new", osd)
        self.with_config("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", osd)
        self.start("ceph-osd", "--id", "0")

    def wait_for_service(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                assert all(daemon.poll() is None for daemon in self.daemons), "a daemon of Ceph ended"
                assert time.monotonic() < deadline, "radosgw does not answer"
                time.sleep(0.1)

    def start_gateway(self):
        self.start("radosgw", "-n", "client.rgw")
        self.wait_for_service()

    def kill_gateway(self):
        """The store behind it stays."""
        gateway = self.daemons.pop()
        gateway.kill()
        gateway.wait()

    def __enter__(self):
        try:
            self.write_config()
            self.start_store()
            self.start_gateway()
            self.with_config("radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
                             f"--access-key={self.access}", f"--secret-key={self.secret}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = []
