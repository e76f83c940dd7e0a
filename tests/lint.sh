#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# House rules that a grep can hold up: lint.sh [SOURCE DIRECTORY].  A line that breaks one with good
# reason says so in a comment with the word "lint:".
set -u
cd "${1:-.}" || exit 1
faults=$(mktemp)
trap 'rm -f "$faults" "$faults.all"' EXIT

# Reads findings and prints them under a heading.
report()
{
    findings=$(grep -v 'lint:')
    test -n "$findings" || return 0
    echo "lint: $1:"
    printf '%s\n' "$findings" | sed 's/^/    /'
    echo "$1" >>"$faults"
}

if git rev-parse --git-dir >/dev/null 2>&1; then
    all=$(git ls-files)
else
    all=$(find . -type f | sed 's,^\./,,')
fi
existing=$(for file in $all; do test ! -f "$file" || echo "$file"; done)
sources=$(echo "$existing" | grep -E '\.[ch]$')
code=$(echo "$sources" | grep -E '\.c$')
product=$(echo "$sources" | grep -E '^(core|plugins)/')

# Statements on one line each, as FILE:LINE:TEXT, without comments.
statements()
{
    awk '
        FNR == 1 { text = ""; comment = 0 }
        {
            line = $0
            if (line ~ /lint:/) { text = ""; next }
            if (comment) { if (line !~ /\*\//) next; sub(/^.*\*\//, "", line); comment = 0 }
            gsub(/\/\*([^*]|\*[^\/])*\*\//, "", line)
            if (line ~ /\/\*/) { sub(/\/\*.*/, "", line); comment = 1 }
            if (text == "") start = FNR
            text = text " " line
            if (line ~ /[;{}][ \t]*$/ || line ~ /^#/ || line == "") {
                gsub(/[ \t]+/, " ", text)
                if (text != " ") print FILENAME ":" start ":" text
                text = ""
            }
        }' "$@"
}

for file in $(echo "$existing" | grep -E '\.([chS]|sh|py|am|ac|m4|mk)$'); do
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || echo "$file"
done | report "no SPDX line"

# shellcheck disable=SC2086
statements $sources >"$faults.all"
all_statements=$faults.all

grep -E '[^A-Za-z0-9_](strcpy|sprintf|vsprintf|strtok|atoi|atol|atoll|gets|system|popen)\(' \
    "$all_statements" | report "banned function"
grep -E '[^A-Za-z0-9_.>](exit|abort)\(' "$all_statements" |
    grep -Ev '^(core/main\.c|tests/|guest/)' | report "exit or abort outside main.c"
grep -E '[^A-Za-z0-9_.>](open|openat|open64)\([^)]*, O_' "$all_statements" | grep -v O_CLOEXEC |
    report "open without O_CLOEXEC"
grep -E '[^A-Za-z0-9_.>](pipe|accept|epoll_create|inotify_init|dup)\(' "$all_statements" |
    grep -Ev '^(tests|guest)/' | report "descriptor without close-on-exec"
grep -E '[^A-Za-z0-9_.>](socket|socketpair)\([A-Z]F_' "$all_statements" | grep -v SOCK_CLOEXEC |
    grep -v '^guest/' | report "socket without SOCK_CLOEXEC"
grep -E '[^A-Za-z0-9_](fopen|fdopen|freopen)\([^;]*"[rwa][^"e]*"' "$all_statements" |
    grep -Ev 'fdopen|^(tests|guest)/' | report "fopen without e"
grep -E '[^A-Za-z0-9_](dlopen|dlsym)\(' "$all_statements" |
    grep -Ev '^(core/plugin/loader\.c|core/util/late\.c|tests/)' | report "dlopen outside loader.c and late.c"
grep -E '^plugins/[^:]*:[0-9]+: static ' "$all_statements" |
    grep -Ev ': static [^=]*(\(|const )' | grep -v 'inline' |
    report "mutable state in a plugin"
# shellcheck disable=SC2086
grep -nE '"(tcp|fuse|qemu|firecracker|nftables|iptables|cow)"' $(echo "$product" | grep '^core/.*\.c$') /dev/null |
    grep -Ev '^core/role/(forwarder|nat-status|port)\.c:[^:]*:.*"tcp"' | # the protocol
    report "the core names a plugin"

# A function ends at the brace in column 0 after the one that opened it.
# shellcheck disable=SC2086
awk 'FNR == 1 { start = 0 }
     /^\{/ { start = FNR }
     /^\}/ { if (start && FNR - start - 1 > 60) print FILENAME ":" start ": " FNR - start - 1 " lines"; start = 0 }
    ' $code | report "function longer than 60 lines"
for file in $code; do
    lines=$(wc -l <"$file")
    test "$lines" -le 800 || echo "$file: $lines lines"
done | report "file longer than 800 lines"
# shellcheck disable=SC2086
LC_ALL=C.UTF-8 awk 'length($0) > 120 { print FILENAME ":" FNR }' $sources |
    report "line far beyond 100 columns"
# shellcheck disable=SC2086
grep -nE '[ 	]+$' $sources /dev/null | report "blanks at the end of a line"

for file in $(echo "$code" | grep -E '^core/[a-z]+/' | sed 's,^core/,,'); do
    grep -q "$file" core/Makefile.am || echo "core/$file"
done | report "not in core/Makefile.am"

# The image's files get their modes from its builder.
git ls-files -s -- tests guest ':!guest/image/rootfs' ':!guest/image/os' '*.sh' 2>/dev/null | sed -n 's/^100644 [^	]*	//p' | while read -r file; do
    head -c 2 "$file" | grep -q '#!' && echo "$file"
done | report "a script that cannot be executed"

test ! -s "$faults"
