#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What `drafter completion` prints is valid for its shell, and completes what the tables have.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

for shell in bash zsh fish; do
    "$DRAFTER" completion $shell >"$directory/drafter.$shell"
    if command -v $shell >/dev/null; then
        $shell -n "$directory/drafter.$shell"
    else
        echo "$shell is not here: its file was only written"
    fi
done
"$DRAFTER" completion csh 2>/dev/null && { echo "csh was accepted"; exit 1; }

# complete WORD...: what bash would offer for the last word
complete()
{
    bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _drafter; echo "${COMPREPLY[@]}"' \
        bash "$directory/drafter.bash" "$@"
}
expect()
{
    wanted=$1
    shift
    found=$(complete "$@")
    test "$found" = "$wanted" || { echo "$*: \"$found\" instead of \"$wanted\""; exit 1; }
}
expect "peer" drafter pe
expect "suspend" drafter ctl su
expect "--state-raddr" drafter peer --state-ra
expect "--state-raddr" /usr/bin/drafter-peer --state-ra
expect "--state-path" drafter config registry --state-p
expect "unpack" drafter image unp
expect "--ready-port" drafter image build --rea
expect "--slots" drafter-nat --slo
expect "" drafter keygen xyz
