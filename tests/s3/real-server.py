#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The conformance suite of storage again, with s3 against radosgw instead of server.py; `make soak` runs it."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import radosgw
from server import ACCESS, SECRET

HERE = pathlib.Path(__file__).resolve().parent


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its daemons end with it
    missing = radosgw.missing()
    if os.geteuid() != 0 or missing:
        print(f"not root, or not installed: {' '.join(missing)} (Debian: radosgw ceph-mon ceph-osd ceph-mgr)")
        return 77
    with tempfile.TemporaryDirectory(prefix="drafter-rgw-") as name, radosgw.Radosgw(name, ACCESS, SECRET) as server:
        os.environ.update(S3_SERVER=str(HERE / "proxy.py"), S3_UPSTREAM=str(server.port))
        suite = pathlib.Path(os.environ["abs_top_builddir"], "tests", "conformance")
        subprocess.run(["./storage"], cwd=suite, check=True, timeout=600)
        print("ok: storage against radosgw", flush=True)
        for test in ("s3-move.py", "s3-package.py"):
            subprocess.run(["python3", HERE.parent / "integration" / test], check=True, timeout=300)
    return 0


sys.exit(main())
