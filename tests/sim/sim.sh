#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Known seeds, every fault among them.
exec ./sim --seeds 10000
