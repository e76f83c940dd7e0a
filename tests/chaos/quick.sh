#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A fault of each kind at the steps that decide; `make soak` makes all of them.
exec python3 "$abs_top_srcdir/tests/chaos/chaos.py" --quick
