#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The moves again with all nodes speaking TLS, each with a key of its own: a choice of them, over tcp and over UNIX
# sockets in turn.  over-tls-all.sh takes every test of VMs that move, over both.
here=$(dirname "$0")
over() { # TRANSPORT TEST
    echo "=== $2 over tls over $1"
    LAB_TLS=$1 "$here/$2" && return
    [ $? != 77 ] || exit 77 # and no other would run here
    echo "FAILED: $2 over tls over $1"
    status=1
}

status=0
if [ "${1:-}" = all ]; then
    for test in "$here"/move-*.py "$here"/registry-*.py "$here"/adopt-*.py "$here/reexec.py" "$here/full-disk.py"; do
        over tcp "${test##*/}"
        over unix "${test##*/}"
    done
else
    over tcp move-postcopy.py
    over unix move-relink.py
    over tcp move-nopostcopy.py
    over unix move-takeover.py
    over tcp move-refused.py
fi
exit $status
