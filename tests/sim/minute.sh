#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A minute of seeds that nobody has seen before, and all pairs of step and fault among them.
first=$(date +%s)000000
echo "from seed $first on:"
exec ./sim --seed "$first" --seeds 1000000000 --seconds 60 --coverage
