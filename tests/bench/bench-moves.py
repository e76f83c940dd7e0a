#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Moves and starts of a VM by drafter beside QEMU's own, A-B-A-B: one line per figure, with its limit and whether it is met.

Firecracker beside itself, where DRAFTER_TEST_FIRECRACKER or PATH has the fork, DRAFTER_TEST_FIRECRACKER_STOCK a release.

RUNS=N: of each side (3). ONLY=TEXT: only comparisons with that in their name. A machine with other work makes single figures
worthless; the ratio of medians of runs that alternate still tells something. Nothing fails for a limit that is not met.
"""

import contextlib
import io
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import drafterlab  # noqa: E402
import firecrackerlab  # noqa: E402
from drafterlab import benchlib  # noqa: E402

MIGRATE = ("blackout_ms", "total_s", "max_gap_after_ms")
SLOW = "--rtt 75 --rate 1g"
# name, keys, ours, theirs, limits of ratios by key
COMPARISONS = [
    ("migrate-light-loopback", MIGRATE, "drafter-migrate --load light", "qemu-migrate --load light", {"blackout_ms": 1.0}),
    ("migrate-light-loopback-exact", MIGRATE, "drafter-migrate --load light", "qemu-migrate --exact --load light",
     {"blackout_ms": 1.0}),
    ("migrate-heavy-loopback-exact", MIGRATE, "drafter-migrate --load heavy", "qemu-migrate --exact --load heavy",
     {"blackout_ms": 1.0}),
    ("migrate-heavy-75ms-preempt", (*MIGRATE, "sweeps_ratio"), f"drafter-migrate --load heavy {SLOW}",
     f"qemu-migrate --mode preempt --load heavy {SLOW}", {"blackout_ms": 0.4}),
    ("migrate-heavy-75ms-postcopy", MIGRATE, f"drafter-migrate --load heavy {SLOW}",
     f"qemu-migrate --mode postcopy --load heavy {SLOW}", {"blackout_ms": 0.4}),
    ("migrate-light-75ms-precopy", MIGRATE, f"drafter-migrate --load light {SLOW}",
     f"qemu-migrate --exact --load light {SLOW}", {"blackout_ms": 0.4}),
    ("local-start", ("exec_to_beat_ms",), "drafter-local-start --plain", "qemu-local-start", {"exec_to_beat_ms": 1.2}),
    ("local-start-clone", ("exec_to_beat_ms",), "drafter-local-start", "qemu-local-start", {"exec_to_beat_ms": 1.2}),
    ("local-start-packed", ("exec_to_beat_ms",), "drafter-local-start --packed", "drafter-local-start", {}),
    ("local-start-minimal", ("exec_to_beat_ms",), "drafter-local-start --plain", "qemu-local-start --minimal", {}),
]

# Guests of little memory: without hardware virtualization each of their instructions is emulated.
FIRECRACKERS = {"fork": firecrackerlab.find("DRAFTER_TEST_FIRECRACKER", "firecracker"),
                "stock": os.environ.get("DRAFTER_TEST_FIRECRACKER_STOCK")}
FIRECRACKER = ("blackout_ms", "total_s"), *(f"{program} --memory 32M --load '{firecrackerlab.BUSY}'" for program in
                                            ("drafter-migrate --firecracker", "firecracker-migrate")), {"blackout_ms": 1.0}


def comparisons():
    """With what makes the environment of each."""
    for comparison in COMPARISONS:
        yield comparison, {}
    for kind, program in FIRECRACKERS.items():
        if program and os.access("/dev/kvm", os.R_OK | os.W_OK):
            yield (f"migrate-firecracker-{kind}", *FIRECRACKER), {"DRAFTER_TEST_FIRECRACKER": program}
        else:
            print(f"migrate-firecracker-{kind}: skipped: no such Firecracker, or no /dev/kvm", flush=True)


def load_compare():
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader
    module = module_from_spec(spec_from_loader("compare", SourceFileLoader("compare", os.path.join(HERE, "compare"))))
    module.__spec__.loader.exec_module(module)
    return module


def run(compare, comparison, runs):
    name, keys, ours, theirs, limits = comparison
    sys.argv = ["compare", "--bench", name, "--runs", str(runs), "--timeout", "300",
                "--ours", f"{HERE}/{ours}", "--theirs", f"{HERE}/{theirs}", "--other", theirs.split("-")[0]]
    for key in keys:
        sys.argv += ["--key", key]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        compare.main()
    for line in text.getvalue().splitlines():
        figure = json.loads(line)
        if (limit := limits.get(figure["bench"].split("/")[1])) is not None:
            figure |= {"limit": limit, "met": figure["ratio"] is not None and figure["ratio"] <= limit}
        print(json.dumps(figure), flush=True)


def main():
    drafterlab.need_host()
    compare, failed = load_compare(), 0
    for comparison, environment in comparisons():
        if os.environ.get("ONLY", "") not in comparison[0]:
            continue
        os.environ |= environment
        try:
            run(compare, comparison, int(os.environ.get("RUNS", "3")))
        except Exception as error:  # the others are worth having all the same
            failed += 1
            print(f"{comparison[0]}: {error}", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
