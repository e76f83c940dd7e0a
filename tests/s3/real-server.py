#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""s3 against radosgw instead of server.py; `make soak` runs it.

real-server.py [PART...]: "suite", the conformance suite of storage; "moves", the tests of whole processes; "start",
guests that start from a bucket, where QEMU and an image of the guest are; "device", 1 GiB that is copied while
everything breaks.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import radosgw
from server import ACCESS, SECRET

HERE = pathlib.Path(__file__).resolve().parent
INTEGRATION = HERE.parent / "integration"


def suite(_):
    where = pathlib.Path(os.environ["abs_top_builddir"], "tests", "conformance")
    subprocess.run(["./storage"], cwd=where, check=True, timeout=600)
    print("ok: storage against radosgw", flush=True)


def moves(_):
    for test in ("s3-move.py", "s3-package.py"):
        subprocess.run(["python3", INTEGRATION / test], check=True, timeout=300)


def start(_):
    done = subprocess.run(["python3", HERE.parent / "e2e" / "s3-start.py"], check=False, timeout=300)
    assert done.returncode in (0, 77), done.returncode


def device(server):
    sys.path.insert(0, str(INTEGRATION))
    import bigdevice  # which needs the environment

    bigdevice.run(server)


PARTS = {"suite": suite, "moves": moves, "start": start, "device": device}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its daemons end with it
    missing = radosgw.missing()
    if os.geteuid() != 0 or missing:
        print(f"not root, or not installed: {' '.join(missing)} (Debian: radosgw ceph-mon ceph-osd ceph-mgr)")
        return 77
    with tempfile.TemporaryDirectory(prefix="drafter-rgw-") as name, radosgw.Radosgw(name, ACCESS, SECRET) as server:
        os.environ.update(S3_SERVER=str(HERE / "proxy.py"), S3_UPSTREAM=str(server.port), AWS_ACCESS_KEY_ID=ACCESS,
                          AWS_SECRET_ACCESS_KEY=SECRET)
        for part in sys.argv[1:] or PARTS:
            PARTS[part](server)
    return 0


sys.exit(main())
