#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# automake has no rule for a program without extension that is named as a test at run time.
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
exec ./bench-network "$@"
