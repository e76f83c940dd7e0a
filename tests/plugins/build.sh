#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds the fixtures: build.sh SOURCE-DIRECTORY OUTPUT-DIRECTORY COMPILER AND FLAGS ...
set -eu
source=$1 output=$2
shift 2
mkdir -p "$output"
chmod 755 "$output"
for name in good older newer short-ops wrong-magic wrong-major tiny gigantic wrong-kind no-kind \
    wrong-name no-name missing-op no-create no-ops threads serial bad-option bad-default with-probe \
    null-entry no-entry undefined; do
    macro=FIXTURE_$(printf %s "$name" | tr a-z- A-Z_)
    "$@" -fPIC -shared -fvisibility=hidden "-D$macro" "-DFIXTURE_NAME=\"$name\"" \
        -o "$output/drafter-storage-$name.so" "$source/fixture.c"
done
"$@" -fPIC -shared -fvisibility=hidden -o "$output/drafter-transport-serial.so" \
    "$source/transport-serial.c"
