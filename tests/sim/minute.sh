#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A minute of known seeds, and all pairs of step and fault among them; hour.sh looks for unknown ones.
exec ./sim --seconds 60 --coverage
