#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
first=$(date +%s)000000
echo "from seed $first on:"
exec ./sim --seed "$first" --seeds 1000000000 --seconds 3600 --coverage
