#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Runs every fuzz target over its corpus: corpus.sh [SECONDS].  With SECONDS and targets built for
# libFuzzer it goes on searching that long with each; new inputs go to a directory that is removed.
set -eu
seconds=${1:-0}
corpus=${abs_top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}/tests/fuzz
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
ran=0
for target in ./fuzz-*; do
    case ${target#./} in *.*) continue ;; esac
    test -x "$target" || continue
    name=${target#./fuzz-}
    seeds=$corpus/corpus/$name
    echo "$name:"
    if test "$seconds" -gt 0; then
        mkdir "$found/$name"
        "$target" -max_total_time="$seconds" -timeout=10 -artifact_prefix=./ "$found/$name" "$seeds"
    elif test "${FUZZERS:-no}" = yes; then
        "$target" -runs=0 -timeout=10 "$seeds" 2>&1 | tail -n 1
    else
        "$target" "$seeds"
    fi
    ran=$((ran + 1))
done
test "$ran" -gt 0
