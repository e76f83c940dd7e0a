#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Known seeds, all pairs of step and fault among them.
exec ./sim --seeds 12000 --coverage
