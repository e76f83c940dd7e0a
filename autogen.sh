#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Prepares a checkout for ./configure.
set -eu
cd "$(dirname "$0")"
for tool in autoreconf automake libtoolize pkg-config; do
    command -v "$tool" >/dev/null || { echo "autogen.sh: $tool is missing" >&2; exit 1; }
done
exec autoreconf --force --install
