# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The numbers that httpd has given to events: a search of the log finds them
# with either module (docs/messages.md). Properties of our lines only come last.

use strict;
use warnings;

use Config;
use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;

my $s   = SlotmemServer->new(servers => 1);
my $api = SlotmemApi->new($s);

# The offset of the MD5 in a file of this shape.
my @shape   = (size => 16, num => 4, slots => [qw(a b c d)], used => [0, 2]);
my $good    = SlotmemFile::encode(@shape);
my $md5     = 8 + 64 + 4;
my %damaged = (slot => 10, md5 => $md5, description => $md5 + 16);
my %bytes   = (
    size => SlotmemFile::encode(size => 24, num => 4),
    type => SlotmemFile::encode(@shape, type => 5),
    cut  => substr($good, 0, $md5 + 7),
    more => SlotmemFile::encode(size => 16, num => 8),
);
for my $name (keys %damaged) {
    $bytes{$name} = $good;
    substr $bytes{$name}, $damaged{$name}, 1, '!';
}
my @refused  = sort keys %bytes;
my @unopened = ('directory', $> ? 'secret' : ());

sub path { return $s->rundir . "/slotmem-shm-$_[0].shm.persist" }

sub put_file {
    my ($name, $bytes) = @_;
    open my $out, '>:raw', path($name) or die path($name), ": $!";
    print {$out} $bytes;
    close $out or die path($name), ": $!";
    return;
}

sub create {
    my ($name, $size, $num, $type) = @_;
    return "SlotmemTest post_config create name=$name tag=$name size=$size"
        . " num=$num type=$type\n";
}

# A server with this segment only: the lines of the distributed module do not
# name the segment.
sub lines_of {
    my $config = shift;
    $s->config($config);
    $s->log_mark;
    $s->start;
    my @lines = grep { /\[slotmem_shm:/ } split /\n/, $s->log_since;
    $s->stop;
    return @lines;
}

sub has {
    my ($level, $number, $name, @lines) = @_;
    my @found = grep { /\[slotmem_shm:$level\].*\b$number: / } @lines;
    return ok(scalar @found, $name) || diag(join "\n", @lines);
}

# ---- with either module ----

my %lines;
for my $name (@refused) {
    put_file($name, $bytes{$name});
    my @lines = lines_of(create($name, 16, 4, 'persist'));
    has('error', 'AH02551', "[E3] $name: AH02551, an error: it does not fit",
        @lines);
    has('\w+', 'AH02554', "[E3] $name: AH02554: it was not restored", @lines);
    $lines{$name} = \@lines;
}
for my $name (@unopened) {
    if ($name eq 'directory') {
        mkdir path($name) or die $!;
    }
    else {
        put_file($name, $good);
        chmod 0, path($name);
    }
    my @lines = lines_of(create($name, 16, 4, 'persist'));
    has('\w+', 'AH02554', "[E3] $name: AH02554: it was not restored", @lines);
    is(scalar(grep { /AH0255[123]/ } @lines), 0,
        "[E3] $name: no number of a successful read");
    $lines{$name} = \@lines;
}

put_file('good', $good);
$lines{good} = [lines_of(create('good', 16, 4, 'persist'))];
has('\w+', 'AH02335', '[E1] a file that fits: AH02335', @{ $lines{good} });
is(scalar(grep { /AH0255\d/ } @{ $lines{good} }), 0,
    '[E1] ... and no number of a file that does not fit');

# Anonymous, as the distributed module would end the server otherwise: it
# creates a file larger than the system's memory, and is killed when it clears
# it.
my ($huge, $times) = $Config{ptrsize} == 4 ? (0x7fff0000, 2)
    : (2**47 - 1, 1);
$lines{create} = [lines_of(create('none', $huge, 1, '') x $times)];
has('error', 'AH02611', '[D1] no memory: AH02611, an error',
    @{ $lines{create} });

# Without file descriptors the distributed module cannot create it, and ours
# does not restore it.
put_file('spent', $good);
$lines{spent} = [lines_of(create('spent', 16, 4, 'persist emfile=1'))];
has('error', 'AH02(?:611|554)', '[D1] [E3] no file descriptor: an error',
    @{ $lines{spent} });

# ---- our lines only ----

# Each has httpd's number and its names, including the number of the reason, and
# either the expected MD5 and the one found, or the expected shape.
sub named {
    my ($tag, $level, $number, @names) = @_;
    return [$tag, $level, qr/^(?:\(\d+\).*?: )?$number: $tag: /, @names];
}

sub not_restored {
    my ($tag, $name, @why) = @_;
    return named($tag, 'error', 'AH02554', $name, path($name), @why);
}

my $digests  = qr/\b[0-9a-f]{32}\b.*\b[0-9a-f]{32}\b/;
my %digests  = (slot => $digests, md5 => $digests);
my %reason   = (secret => [qr/Permission denied/]);
my %expected = (
    (map {
        $_ => not_restored('SLOTMEM-11', $_, 'AH02551',
            $digests{$_} || (4, 16))
    } @refused),
    (map { $_ => not_restored('SLOTMEM-11', $_, @{ $reason{$_} || [] }) }
        @unopened),
    good   => named('SLOTMEM-10', 'info', 'AH02335', 'good', 4, 4,
        path('good')),
    spent  => not_restored('SLOTMEM-12', 'spent', qr/Too many open files/),
    create => named('SLOTMEM-03', 'error', 'AH02611', '(anonymous)', 1, $huge),
);
SKIP: {
    skip 'not our module', 2 * keys %expected
        if !SlotmemServer->has_directive('SlotmemPersistDir');
    for my $name (sort keys %expected) {
        my @found = grep { /AH\d{5}/ } @{ $lines{$name} };
        my $said  = join "\n", @found;
        is(SlotmemServer->said($said, @{ $expected{$name} }), 1,
            "our line of $name: httpd's number, our tag, its names")
            or diag($said);
        is(scalar @found, 1, "... and no other line has httpd's numbers");
    }
}

done_testing;
