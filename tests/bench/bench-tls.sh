#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# automake has no rule for a program without extension that is named as a test at run time.
exec ./bench-tls "$@"
