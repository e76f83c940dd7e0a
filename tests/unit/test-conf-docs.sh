#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# drafter.conf(5) against the option tables of the roles: every key, with its default, and no other.
# Then the examples in conf/: keys that exist, and the defaults that they show behind a comment sign.
set -eu
command -v perl >/dev/null && perl -MJSON::PP -e 1 2>/dev/null ||
    { echo "perl with JSON::PP is missing"; exit 77; }

exec perl - "$DRAFTER" "$abs_top_srcdir" <<'PERL'
use strict;
use warnings;
use JSON::PP;

my ($drafter, $source) = @ARGV;
my ($checked, $faults) = (0, 0);
my $pod = "$source/core/doc/drafter.conf.pod";

sub fault { print "@_\n"; $faults++; }

open my $pipe, '-|', $drafter, 'roles', '--json' or die "$drafter: $!";
my $tables = decode_json(do { local $/; <$pipe> });
close $pipe or die "drafter roles failed";
my %table = map { $_->{section} => {map { $_->{key} => $_ } @{$_->{options}}} } @$tables;

# The =item lines below "=head2 [SECTION]" or "=head2 [SECTION:NAME]".
my (%documented, $section);
open my $page, '<', $pod or die "$pod: $!";
while (<$page>) {
    $section = /^=head2 \[([a-z]+)(?::NAME)?\]$/ ? $1 : undef if /^=head[12]/;
    $documented{$section}{$1} = $_ if defined $section && /^=item B<([a-z0-9-]+)>/;
}

for my $table (@$tables) {
    my $items = $documented{$table->{section}} // {};
    for my $option (@{$table->{options}}) {
        my ($key, $default) = @$option{'key', 'default'};
        my $item = delete $items->{$key};
        if (!defined $item) {
            fault("$pod: [$table->{section}] lacks $key");
        } elsif (defined $default ? $item !~ /, default \Q$default\E$/ : $item =~ /, default/) {
            fault("$pod: [$table->{section}] $key: the default is ", $default // 'none');
        }
        $checked++;
    }
    fault("$pod: [$table->{section}] has no key $_") for sort keys %$items;
}
exists $table{$_} or fault("$pod: there is no section [$_]") for sort keys %documented;

my @examples = glob "$source/conf/*.ini";
for my $file (@examples) {
    open my $conf, '<', $file or die "$file: $!";
    my $options;
    while (<$conf>) {
        $options = $table{$1} if /^\[([a-z]+)/;
        next unless $options && /^([#;]?)([a-z-]+) = (.*?)$/;
        my ($comment, $option) = ($1, $options->{$2});
        if (!$option) {
            fault("$file:$.: no such key: $2");
        } elsif ($comment && defined $option->{default} && $3 ne $option->{default}) {
            fault("$file:$.: the default of $2 is $option->{default}");
        }
    }
}
print "$checked keys, ", scalar @examples, " examples\n";
fault('nothing was checked') unless $checked;
exit($faults ? 1 : 0);
PERL
