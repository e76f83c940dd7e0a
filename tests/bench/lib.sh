# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# For benchmarks in shell: . "$(dirname "$0")/lib.sh"

# emit BENCH OURS OTHER THEIRS: the line of the project. An empty figure is one that could not be had.
emit() {
    awk -v bench="$1" -v ours="$2" -v other="$3" -v theirs="$4" 'BEGIN {
        ratio = ours != "" && theirs + 0 != 0 ? sprintf("%.4f", ours / theirs) : "null"
        printf "{\"bench\": \"%s\", \"ours\": %s, \"other\": \"%s\", \"theirs\": %s, \"ratio\": %s}\n",
            bench, ours == "" ? "null" : ours, other, theirs == "" ? "null" : theirs, ratio
    }'
}

# median: of the numbers on standard input, one per line
median() {
    sort -n | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
