#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The flags of `drafter nat` that are for a network plugin: each is a key of every plugin with namespaces, and the
# default that --help tells is the plugin's.
set -eu
command -v perl >/dev/null && perl -MJSON::PP -e 1 2>/dev/null ||
    { echo "perl with JSON::PP is missing"; exit 77; }

exec perl - "$DRAFTER" <<'PERL'
use strict;
use warnings;
use JSON::PP;

my ($drafter) = @ARGV;
my (%default, $checked, $faults);
for (qx($drafter nat --help)) {
    $default{$1} = $2 if /^  --(\S+)\s+\S+(?: \(default (.*)\))?$/;
}
# Those of the role itself and of the node.
delete $default{$_} for map { $_->{key} } map { @{$_->{options}} }
    grep { $_->{section} =~ /^(nat|drafter)$/ } @{decode_json(join '', qx($drafter roles --json))};
delete $default{set};

for my $plugin (qw(nftables iptables)) {
    my $text = join '', qx($drafter plugins network/$plugin --json 2>/dev/null);
    next if $?; # not built
    my %option = map { $_->{key} => $_ } @{decode_json($text)->[0]{options}};
    for my $flag (sort keys %default) {
        $checked++;
        my $option = $option{$flag};
        next if $option && ($option->{default} // '') eq ($default{$flag} // '');
        print "$plugin: --$flag ", $option ? "has another default there" : "is no key of it", "\n";
        $faults++;
    }
}
if (!$checked) { print "no network plugin with namespaces is built\n"; exit 77; }
print "$checked flags\n";
exit($faults ? 1 : 0);
PERL
