#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The manual page of each plugin against its option table: every key, with its default, and no other.
set -eu
command -v perl >/dev/null && perl -MJSON::PP -e 1 2>/dev/null ||
    { echo "perl with JSON::PP is missing"; exit 77; }

exec perl - "$DRAFTER" "$abs_top_srcdir/plugins" <<'PERL'
use strict;
use warnings;
use JSON::PP;

my ($drafter, $plugins) = @ARGV;
my ($checked, $faults) = (0, 0);

sub fault { print "@_\n"; $faults++; }

sub drafter_json {
    open my $pipe, '-|', $drafter, @_, '--json' or die "$drafter: $!";
    my $text = do { local $/; <$pipe> };
    close $pipe or die "drafter @_ failed";
    return decode_json($text);
}

# The =item lines of the section OPTIONS.
sub items {
    my ($file) = @_;
    open my $pod, '<', $file or die "$file: $!";
    my ($inside, @items) = (0);
    while (<$pod>) {
        chomp;
        $inside = /^=head1 OPTIONS/ ? 1 : 0 if /^=head1/;
        push @items, $_ if $inside && /^=item .*B</;
    }
    return @items;
}

sub check {
    my ($plugin) = @_;
    my ($kind, $name) = @$plugin{'kind', 'name'};
    my @pods = glob "$plugins/$kind/$name/*.pod";
    return fault("$kind $name: no manual page") unless @pods;
    return fault("$kind $name: more than one manual page") if @pods > 1;
    my $pod = $pods[0];
    my %documented;
    for my $item (items($pod)) {
        # "=item B<key>, B<key> = ...": what follows the keys may have words in bold too.
        my ($keys) = $item =~ /^=item ((?:B<[a-z0-9-]+>(?:, )?)+)/ or next;
        $documented{$_} = $item for $keys =~ /B<([a-z0-9-]+)>/g;
    }
    for my $option (@{$plugin->{options}}) {
        my ($key, $default) = @$option{'key', 'default'};
        my $item = delete $documented{$key};
        if (!defined $item) {
            fault("$pod: key $key is missing");
        } elsif (defined $default && length $default &&
                 $item !~ /(?:default:?\s+|\()\Q$default\E(?![\w.-])/) {
            fault("$pod: the default of $key is $default, not as in \"$item\"");
        } elsif ($option->{required} && $item !~ /required/) {
            fault("$pod: $key is required");
        }
        $checked++;
    }
    fault("$pod: no such key: $_") for sort keys %documented;
    my $text = do { local (@ARGV, $/) = ($pod); <> };
    for my $heading ('NAME', 'SYNOPSIS', 'DESCRIPTION', 'NEEDS|REQUIREMENTS',
                     'FAILURES|FAILURE MODES', 'SECURITY') {
        fault("$pod: no section $heading") unless $text =~ /^=head1 (?:$heading)$/m;
    }
}

for my $row (@{drafter_json('plugins')}) {
    if ($row->{error}) {
        fault($row->{error});
        next;
    }
    check($_) for @{drafter_json('plugins', "$row->{kind}/$row->{name}")};
}
print "$checked options\n";
fault('nothing was checked') unless $checked;
exit($faults ? 1 : 0);
PERL
