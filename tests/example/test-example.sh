#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A third party builds a plugin, and a program that embeds drafter, from what `make install` put down.
set -eu

fail()
{
    echo "test-example: $*" >&2
    exit 1
}

case "$SANITIZERS" in
no) ;;
*) echo "the installed program is tested without sanitizers"; exit 77 ;;
esac
command -v pkg-config >/dev/null || { echo "pkg-config is missing"; exit 77; }

work=$(mktemp -d "${TMPDIR:-/tmp}/drafter-example.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
source=$abs_top_srcdir/tests/example

# Variables of this make would otherwise reach the one inside.
unset MAKEFLAGS MFLAGS MAKELEVEL CPPFLAGS CFLAGS LDFLAGS DRAFTER_PLUGIN_PATH || true
for part in core plugins; do
    make -s -C "$abs_top_builddir/$part" install DESTDIR="$work/root" >"$work/install.log" 2>&1 ||
        { cat "$work/install.log"; fail "make install failed in $part"; }
done
pc=$(find "$work/root" -name drafter.pc)
test -n "$pc" || fail "drafter.pc was not installed"
PKG_CONFIG_PATH=$(dirname "$pc")
PKG_CONFIG_SYSROOT_DIR=$work/root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
test -z "$(pkg-config --libs-only-l drafter)" || fail "drafter.pc names libraries"
pkg-config --variable=abi drafter | grep -Eq '^[0-9]+\.[0-9]+$' || fail "drafter.pc lacks abi"
program=$(find "$work/root" -type f -path '*/bin/drafter')

# Each header is complete by itself, for C99 and for C++.
for header in $(cd "$work/root" && find . -path '*/include/drafter/*.h'); do
    name=drafter/$(basename "$header")
    echo "#include <$name>" >"$work/one.c"
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c99 -D_GNU_SOURCE -Wall -Wextra -pedantic -Werror $(pkg-config --cflags drafter) \
        -fsyntax-only "$work/one.c" || fail "$name does not compile alone as C99"
    if command -v c++ >/dev/null; then
        # shellcheck disable=SC2046
        c++ -x c++ -D_GNU_SOURCE -Wall -Wextra -Werror $(pkg-config --cflags drafter) \
            -fsyntax-only "$work/one.c" || fail "$name does not compile alone as C++"
    fi
done

mkdir "$work/plugin"
cp "$source/drafter-transport-example.c" "$work/plugin/"
cp "$source/Makefile.example" "$work/plugin/Makefile"
make -s -C "$work/plugin" CFLAGS='-O2 -Wall -Wextra -Werror' || fail "the example does not build"
plugin=$work/plugin/drafter-transport-example.so
exported=$(nm -D --defined-only "$plugin" | awk '{print $3}')
test "$exported" = drafter_plugin_entry || fail "the example exports: $exported"

"$program" plugins "$plugin" --json >"$work/described" || fail "the program does not load the example"
grep -q '"example"' "$work/described" || { cat "$work/described"; fail "no name in the description"; }
grep -q '"backlog"' "$work/described" || { cat "$work/described"; fail "no option in the description"; }

# A migration over the example: two peers whose [transport] is `plugin = $plugin`.
if test -x "$source/migrate-over.sh"; then
    "$source/migrate-over.sh" "$program" "$plugin" "$work" || fail "migration over the example failed"
fi

# A program that embeds drafter, likewise; what it can call is what its header declares.
library=$(find "$work/root" -name libdrafter.so)
declared=$(sed -n 's/^[a-z].*[ *]\(drafter_[a-z_]*\)(.*/\1/p' "$(find "$work/root" -name embed.h)" | sort)
exported=$(nm -D --defined-only "$library" | sed -n 's/.* T \([^@]*\).*/\1/p' | sort)
test "$exported" = "$declared" || fail "embed.h declares $declared, libdrafter exports $exported"
# shellcheck disable=SC2046
${CC:-cc} -O2 -std=c99 -Wall -Wextra -Werror -o "$work/embed" "$source/embed-example.c" \
    $(pkg-config --cflags --libs libdrafter) -pthread || fail "the embedding example does not build"
LD_LIBRARY_PATH=$(dirname "$library")
export LD_LIBRARY_PATH
"$source/migrate-over.sh" "$program" "$plugin" "$work" "$work/embed" || fail "the embedding example failed"
