#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# As many of the failures as fit into half a minute, another choice with each SWEEP_SEED; `make soak` makes all of them.
exec python3 "$abs_top_srcdir/tests/sweep/sweep.py" --seconds "${SWEEP_SECONDS:-30}" --seed "${SWEEP_SEED:-1}"
