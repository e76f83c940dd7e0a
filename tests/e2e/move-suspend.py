#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A package starts locally at once; SIGTERM saves the VM into its files, and a later start goes on from there."""

import drafterlab
from drafterlab import check


def test(lab):
    package = lab.package(drafterlab.BUSY)
    beats = lab.heartbeats("a")
    last = 0
    for run in range(1, 4):
        a = lab.peer("a", package, copy=False, listen=None)
        resumed = a.wait("resumed")
        print(f"start {run}: {(resumed['at'] - a.started) * 1e3:.0f} ms from exec to resumed")
        if run < 3:
            beats.goes_on("a", 0.5)
        else:
            beats.verified("a")
        check(a.stop() == 0, f"run {run} ends with 0 after SIGTERM")
        check(a.find("suspended"), "and says that the VM was saved")
        check(beats.count("a") > last, "it ran")
        last = beats.count("a")
    report = beats.report()
    drafterlab.continuous(report)
    check(report["chk_ok"] > 0, "the guest verified its memory")
    check(not (report["repeated"] or report["sweeps_back"] or report["bad"] or report["chk_bad"]), "it went on from where it was")


drafterlab.main(test)
