#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A minute of known seeds, and all pairs of step and fault among them; hour.sh looks for unknown ones.
exec ./sim --seeds 40000 --seconds 120 --coverage
