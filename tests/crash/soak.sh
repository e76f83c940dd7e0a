#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Many more runs than `make check` has time for, from seeds of the day.
set -eu
exec ./crash-cow "${CRASH_RUNS:-200}" "${CRASH_SEED:-$(date +%Y%m%d)}"
