#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of a node whose guest writes, while its pages are being written to an overlay and read from it.

What reached the overlay since its last flush is in no map on disk: it must not be lost. A page that waits for the dead
node's answer must come from the next one.
"""

import ctypes
import os
import signal
import sys

import drafterlab
from drafterlab import check

SYNC_FILE_RANGE_ALL = 7  # wait before, write, wait after
ROUNDS = 4
STEP = 1 << 16


def write_back(fd):
    """Brings the guest's dirty pages to the node, without a flush."""
    libc = ctypes.CDLL(None, use_errno=True)
    while not libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_ALL):
        pass
    sys.exit("write-back failed")


def read_all(fd):
    """Reads what is not in the page cache, for ever; a lost answer is an error."""
    size = os.fstat(fd).st_size
    while True:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for at in range(0, size, STEP):
            if len(os.pread(fd, STEP, at)) != min(STEP, size - at):
                sys.exit("a short read")


def test(lab):
    package = lab.package("fill=48 dirty=16 rate=40000 check=1", memory="96M")
    overlay = {"overlay": lab.path("memory.overlay"), "state": lab.path("memory.state")}
    beats = lab.heartbeats("a")
    node = lab.peer("a", package, devices={"memory": overlay})
    beats.wait("beat", "a", drafterlab.PATIENCE)
    memory = lab.path("run/a/vm/devices/memory")
    # Processes of their own: who forks with such a file open waits for the node that is dead.
    workers = [lab.spawn([sys.executable, __file__, what, memory]) for what in ("write", "read")]
    for _ in range(ROUNDS):
        beats.goes_on("a", 0.2)
        node.kill()
        node = lab.restart(node)
        node.wait("adopted")
    beats.goes_on("a", 0.2)
    for worker in workers:
        check(worker.poll() is None, "nobody who reads or writes back met an error")
        worker.send_signal(signal.SIGTERM)
        worker.wait(drafterlab.PATIENCE)
    beats.verified("a")
    check(node.stop() == 0, "the VM is saved at the end")
    lab.restart(node).wait("resumed")
    beats.verified("a")
    drafterlab.intact(beats.report())
    print(f"the guest's longest pauses: {[round(gap) for gap in lab.gaps(beats.log)[:10]]} ms")


if len(sys.argv) == 3:
    {"write": write_back, "read": read_all}[sys.argv[1]](os.open(sys.argv[2], os.O_RDWR))
drafterlab.main(test)
