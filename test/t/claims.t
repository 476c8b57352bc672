# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Segments of the types PERSIST and CLEARINUSE: which slots are claimed by the
# configuration, and which at run time (contract, E2 and E6).

use strict;
use warnings;

use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;

my $s    = SlotmemServer->new(servers => 2);
my $api  = SlotmemApi->new($s);
my $path = $s->rundir . '/slotmem-shm-m.shm.persist';

# A configuration with these members, each of which claims its slot by content.
# Anything except a plain word is a command.
sub members {
    my $text = 'SlotmemTest post_config create name=m size=32 num=6'
        . " type=persist,clearinuse\n";
    for my $member (@_) {
        $text .= 'SlotmemTest post_config '
            . ($member =~ /^\w+$/
            ? "claim name=m data=$member tag=$member\n"
            : "$member name=m tag=command\n");
    }
    return $s->config($text);
}

sub slot_of {
    my $member = shift;
    my $result = $api->result($member);
    return ($result->{status} // '') eq 'APR_SUCCESS' ? $result->{id} : -1;
}

# Adds a member at run time, as the balancer-manager does.
sub add {
    my $member = shift;
    my $id     = $api->run('grab name=m')->{id};
    $api->run("poke name=m id=$id len=32 data=$member");
    return $id;
}

sub in_use {
    my $info = $api->run('info name=m');
    return $info->{num} - $info->{free};
}

sub data {
    my $id = shift;
    return $api->run("dptr name=m id=$id")->{data};
}

sub warnings { return $s->log_count(qr/\[slotmem_shm:warn\]/) }

sub file {
    return SlotmemFile::decode(SlotmemServer::slurp($path), 32, 6);
}

# Two configured members, and two run-time members.
members(qw(A B));
$s->start;
is(slot_of('A') . slot_of('B'), '01', '[E2] the configuration claims 0 and 1');
is(add('R1'), 2, 'R1 is added at run time');
is(add('R2'), 3, 'R2 too');
is(in_use(), 4, '[D9] four slots are in use');

# A store does not change the live memory, which an old child still uses.
my $at   = $s->root . '/at';
my $gate = $s->root . '/gate';
my ($client) = $api->start(
    ["wait at=$at file=$gate max=10", 'info name=m', 'grab name=m']);
$s->wait_until('the request', sub { -e $at });
$s->graceful(wait_old => 0);
my $file = file();
is($file->{free}, 6, '[E2] the count is written as the number of slots');
is_deeply($file->{used}, [], '[E2] every in-use byte is written as 0');
is_deeply($file->{claims}, [2, 3], '[E2] the run-time claims are stored');
is($file->{claims_ok}, 1, '[E2] ... with an MD5 that fits');
is_deeply([@{ $file->{slots} }[0 .. 3]], [qw(A B R1 R2)],
    '[E2] the data of the slots is kept');
open my $out, '>', $gate or die "$gate: $!";
close $out;
my ($old) = $api->finish($client);
is($old->[1]{free}, 2, '[E2] the store has not changed the live memory');
is($old->[2]{id}, 4, '[E2] ... nor what it grants');

is(slot_of('A') . slot_of('B'), '01', '[E2] both find their slots again');
is(in_use(), 4, '[E2] the run-time claims are restored as in use');
is(data(2) . data(3), 'R1R2', '[E2] ... with their data');

# A new member does not get the slot of a run-time member.
members(qw(A B C));
$s->restart;
is(slot_of('C'), 4, '[E2] a new member takes a free slot');
is(in_use(), 5, '[E2] ... and the others keep theirs');

# A claim of the configuration replaces the run-time claim.
members(qw(A B C R1));
$s->restart;
is(slot_of('R1'), 2, '[E2] R1 is now in the configuration');
is(in_use(), 5, '[E2] ... in its slot');
members(qw(A B C));
$s->restart;
is(in_use(), 4, '[E2] no line claims it again: its slot is free');
is($api->run('grab name=m')->{id}, 2, '[E2][D6] ... and is granted');
$api->run('release name=m id=2');

# get and put claim too.
members(qw(A B C), 'get id=3', 'put id=5 len=32 data=P');
$s->restart;
is(in_use(), 5, '[E2] get claims a run-time slot, put a free one');
members(qw(A B C));
$s->restart;
is(in_use(), 3, '[E2] ... for the configuration: both are free again');
is(data(3) . data(5), 'R2P', '[E2] ... and have their data');
is_deeply(file()->{claims}, [], '[E2] no run-time claim is left');

# Claimed in the configuration, released and granted again in a child.
members(qw(A B C D));
$s->restart;
my $slot = slot_of('D');
$api->run("release name=m id=$slot");
is(add('again'), $slot, 'the slot of a member is granted again');
members(qw(A B C));
$s->restart;
is(in_use(), 3, '[E2] it counts as claimed by the configuration');

# A released run-time claim no longer counts.
$slot = add('short');
$api->run("release name=m id=$slot");
$s->restart;
is(in_use(), 3, '[E2] a released run-time claim does not count');

# The last free slot.
members(qw(A B));
$s->restart;
$s->log_mark;
is(join(' ', map { add("T$_") } 1 .. 3), '2 3 4', 'three of four slots');
is(warnings(), 0, 'no warning while a slot is free');
is(add('T4'), 5, 'the last one');
is(warnings(), 1, '[E2] the last free slot is granted: one warning');
is($s->log_has('SLOTMEM-01', 'warn', 'm', 6, 'growth=', 'BalancerGrowth'), 1,
    '[E2] ... names the segment, its slots, and what makes room');
$api->check('grab name=m', { status => 'APR_EINVAL', id => 6 },
    '[D6] no slot is left');
is(warnings(), 1, '[E2] ... and no other warning');

# A start takes run-time slots if there are no others.
members(qw(A B X Y));
$s->log_mark;
$s->restart;
is(slot_of('X') . ' ' . slot_of('Y'), '2 3',
    '[E2] full: new members take the lowest run-time slots');
is(join('', map { $s->log_has('SLOTMEM-02', 'warn', 'm', $_) } 2, 3), '11',
    '[E2] ... with one warning each, which names segment and slot');
is(warnings(), 2, '[E2] ... and no other');
is(data(4) . data(5), 'T3T4', '[E2] the rest is unchanged');
is(in_use(), 6, '[E2] ... in use');
members(qw(A B X Y Z1 Z2 Z3));
$s->restart;
is(join(' ', map { slot_of($_) } qw(Z1 Z2 Z3)), '4 5 -1',
    '[E2] ... until the configuration has them all');
$api->same($api->result('Z3'), { status => 'APR_EINVAL', id => 6 },
    '[E2][D6] then grab fails in the configuration too');
members(qw(A B X Y));
$s->restart;
is(in_use(), 4, '[E2] none of them is a run-time claim');

# Known limits: a new member that is listed first takes a slot whose owner has
# not claimed it yet; a removed member leaves its data behind.
members(qw(N A B X Y));
$s->restart;
is(slot_of('N'), 0, '[E6] a new member listed first takes the first slot');
is(slot_of('A'), 1, '[E6] ... whose owner gets the next, and so on');
my $removed = slot_of('B');
members(qw(N A X Y));
$s->restart;
is(data($removed), 'B', '[E6] a removed member leaves its data behind');

# Without a section, or with one that does not fit, there are no run-time
# claims; that does not count as damage.
members(qw(N A));
$s->stop;
my $used = 2;
my %change = (
    'no section'         => sub { substr shift, 0, 8 + 6 * 33 + 32 },
    'half a section'     => sub { substr shift, 0, 8 + 6 * 33 + 32 + 20 },
    'another magic'      => sub { patch(shift, 0, "\0") },
    'another version'    => sub { patch(shift, 4, "\3") },
    'another chunk'      => sub { patch(shift, 8, "\1") },
    'a changed claim'    => sub { patch(shift, 24, "\1") },
    'another end'        => sub { patch(shift, 30, "\1") },
    'a changed MD5'      => sub { patch(shift, 62, 'MD5') },
);

sub patch {
    my ($bytes, $offset, $with) = @_;
    substr $bytes, 8 + 6 * 33 + 32 + $offset, length $with, $with;
    return $bytes;
}

for my $what (sort keys %change) {
    $s->start;
    $api->run('fgrab name=m id=5', 'poke name=m id=5 len=32 data=five');
    $s->stop;
    is_deeply(file()->{claims}, [5], 'a run-time claim is stored');
    my $bytes = $change{$what}->(SlotmemServer::slurp($path));
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} $bytes;
    close $out;
    $s->log_mark;
    $s->start;
    is(in_use(), 2, "[E2] $what: no run-time claims");
    is(data(5), 'five', "[E2] ... the data is restored: $what");
    is($s->log_count(qr/slotmem_shm:(?:warn|error)/), 0,
        "[E2] ... and that is not damage: $what");
    $s->stop;
}

# With -X one process does both; the state of the server tells them apart.
$s->start('-X');
is(in_use(), 2, 'under -X');
$slot = add('single');
$s->stop;
$s->start;
is(in_use(), 3, '[E2][B9] a slot claimed at run time with -X stays claimed');
is(data($slot), 'single', '[E2][B9] ... restored');
$s->stop;

unlike($s->log, qr/exit signal/, 'no child has crashed');

done_testing;
