# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Checkpoints: changes are stored while the server runs, and a kill loses only
# later ones (contract, B2 and B7).

use strict;
use warnings;

use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the module has no SlotmemCheckpointInterval'
    if !SlotmemServer->has_directive('SlotmemCheckpointInterval');

my @types = ('persist', 'persist,pregrab', 'persist,clearinuse');
my @names = qw(plain marks claims);
my $shape = join '', map {
    "SlotmemTest post_config create name=$names[$_] size=16 num=4"
        . " type=$types[$_]\n"
} 0 .. $#names;
$shape .= "SlotmemTest post_config create name=$_ size=16 num=4 type=persist\n"
    for qw(same removed);
$shape .= "SlotmemTest post_config create name=volatile size=16 num=4\n";
$shape .= "SlotmemTest post_config create name=large size=65536 num=40"
    . " type=persist\n";

# The monitor hooks run about every ten seconds, or with this several times per
# second.
my $hurry = "SlotmemTest post_config hurry ms=20\n";

sub path {
    my ($s, $name) = @_;
    return $s->rundir . "/slotmem-shm-$name.shm.persist";
}

sub state_of {
    my ($s, $name) = @_;
    my @stat = Time::HiRes::stat(path($s, $name));
    return join ' ', map { $_ // '-' } @stat[1, 7, 9, 10];
}

sub decoded {
    my ($s, $name) = @_;
    return SlotmemFile::decode(SlotmemServer::slurp(path($s, $name)), 16, 4);
}

sub slot {
    my ($s, $name, $id) = @_;
    return decoded($s, $name)->{slots}[$id] // '';
}

sub kill_all {
    my $s = shift;
    kill 'KILL', $s->processes;
    $s->wait_until('kill', sub { !$s->processes });
    $s->reap;
    return;
}

# Two servers: one with checkpoints as often as possible, one without.
my $s = SlotmemServer->new(timeout => 30,
    config => "SlotmemCheckpointInterval 1\n$shape");
my $off = SlotmemServer->new(
    config => "SlotmemCheckpointInterval 0\n$hurry$shape");
my ($api, $off_api) = map { SlotmemApi->new($_) } $s, $off;
my @fill = map { ("put name=$_ id=1 data=first") } @names, 'same', 'removed';
for ([$off, $off_api], [$s, $api]) {
    my ($server, $its) = @$_;
    $server->start;
    $its->run(@fill, 'fgrab name=marks id=1', 'put name=marks id=1 data=first');
    $server->stop;
    is(slot($server, 'plain', 1), 'first', 'there is something to change');
    $server->start;
}

# Makes changes and waits once for the monitor hook. Requests continue
# meanwhile.
my %old = map { $_ => state_of($s, $_) } qw(same large);
my $off_old = state_of($off, 'plain');
$off_api->run('put name=plain id=2 data=second');
unlink path($s, 'removed') or die $!;
$s->log_mark;
my $started = time;
my @before = $api->run(
    'put name=plain id=2 data=second', 'fgrab name=marks id=2',
    'put name=marks id=2 data=second',
    'put name=claims id=2 data=second', 'put name=volatile id=2 data=second',
    map { ("dptr name=$_ id=2", "info name=$_", "doall name=$_") } @names
);
my ($answered, $longest) = (0, 0);
$s->wait_until('a checkpoint', sub {
    my $asked = time;
    $answered++ if $api->run('get name=plain id=2')->{data} eq 'second';
    my $took = time - $asked;
    $longest = $took if $took > $longest;
    return slot($s, 'plain', 2) eq 'second';
});
my $took = time - $started;
cmp_ok($took, '<', 1 + 12,
    '[B2] a change is in the file within the interval and ten seconds');
cmp_ok($answered, '>', 0, '[B2] requests were answered meanwhile');
cmp_ok($longest, '<', 5, '[B2] ... without a long wait');
$s->wait_until('the other files', sub {
    return slot($s, 'marks', 2) eq 'second'
        && slot($s, 'claims', 2) eq 'second' && -e path($s, 'removed');
});
for my $name (@names) {
    my $file = decoded($s, $name);
    is("$file->{digest_ok}$file->{exact}", 11,
        "[B2][E1] $name: a complete file");
}
is(join(',', @{ decoded($s, 'marks')->{used} }), '1,2',
    '[B2] a checkpoint stores the in-use flags');
is(join(',', @{ decoded($s, 'claims')->{claims} }), '1,2',
    '[B2][E2] ... and run-time claims');
is_deeply({ map { $_ => state_of($s, $_) } keys %old }, \%old,
    '[B2] an unchanged segment is not written');
is(slot($s, 'removed', 1), 'first',
    '[B2] a file that somebody has removed is written again');
ok(!-e path($s, 'volatile'), '[B2] a segment without PERSIST is not stored');
is($s->log_count(qr/slotmem_shm:(?!debug|trace|info)/), 0,
    '[B2] a successful checkpoint logs nothing') or diag($s->log_since);
my @after = $api->run('get name=plain id=2', 'info name=plain',
    map { ("dptr name=$_ id=2", "info name=$_", "doall name=$_") } @names);
splice @after, 0, 2;
is_deeply(
    [map { join ' ', map { $_ // '-' } @$_{qw(data free visited)} } @after],
    [map { join ' ', map { $_ // '-' } @$_{qw(data free visited)} }
            @before[-@after .. -1]],
    '[B2][E2] the store has not changed live memory'
);
is(state_of($off, 'plain'), $off_old, '[B2] interval 0: no checkpoint');
is($off_api->run('get name=plain id=2')->{data}, 'second', '... of a change');

# kill -9 of all processes at once: the checkpoint survives.
$api->run('put name=plain id=3 data=third');
kill_all($s);
kill_all($off);
$s->config("SlotmemCheckpointInterval 2\n$hurry$shape");
$started = time;
$s->start;
my @got = $api->run('dptr name=plain id=2', 'get name=marks id=2',
    'doall name=marks', 'info name=claims', 'dptr name=claims id=2');
is($got[0]{data}, 'second', '[B2][B7] after kill -9: the slots');
is($got[1]{data}, 'second', '[B2][B7] ... of PREGRAB');
is($got[2]{visited}, '1,2', '[B2][B7] ... and its in-use flags');
is($got[3]{free}, 2, '[B2][E2] ... run-time claims');
is($got[4]{data}, 'second', '[B2][E2] ... with their slots');
$off->start;
is($off_api->run('dptr name=plain id=2')->{data}, '',
    '[B2] with interval 0 kill -9 loses the changes');
$off->stop;

# There is no checkpoint before the interval is over, however often the monitor
# hooks run; and the same after that. The last change is in a file of several
# chunks.
$api->run('put name=plain id=0 data=1');
$s->wait_until('a checkpoint', sub { slot($s, 'plain', 0) eq '1' });
cmp_ok(time - $started, '>', 2, '[B2] no checkpoint before the interval');
$started = time;
$api->run('put name=plain id=0 data=2', 'poke name=large id=39 data=end');
$s->wait_until('another', sub { slot($s, 'plain', 0) eq '2' });
cmp_ok(time - $started, '>', 1, '[B2] ... the same for the next one');
$s->wait_until('the large one', sub {
    my $bytes = SlotmemServer::slurp(path($s, 'large'));
    return SlotmemFile::decode($bytes, 65536, 40)->{slots}[39] eq 'end';
});
pass('[B2] a large file is stored by a checkpoint too');
$s->graceful;
$api->run('put name=plain id=0 data=3');
$s->wait_until('one more', sub { slot($s, 'plain', 0) eq '3' });
pass('[B2] checkpoints continue after a restart');
is($api->run('dptr name=large id=39')->{data}, 'end',
    '[B2] ... which has restored the large one');
$s->stop;

# Errors of configuration.
for my $bad ('-1', 'x', '1.5', '5s', '99999999999') {
    $s->config("SlotmemCheckpointInterval $bad\n");
    my ($code, $output) = $s->configtest;
    isnt($code, 0, "SlotmemCheckpointInterval $bad is an error");
    is(SlotmemServer->said($output, 'SLOTMEM-21', 'config',
        'SlotmemCheckpointInterval', $bad), 1,
        '... that names directive and value');
}
$s->config("<VirtualHost 127.0.0.1:9>\nSlotmemCheckpointInterval 5\n"
        . "</VirtualHost>\n");
my ($code, $output) = $s->configtest;
isnt($code, 0, 'SlotmemCheckpointInterval in a virtual host is an error');
like($output, qr/SlotmemCheckpointInterval/, '... that names it');
$s->config("SlotmemCheckpointInterval\n");
($code, $output) = $s->configtest;
isnt($code, 0, 'SlotmemCheckpointInterval without a value is an error');

unlike($s->log . $off->log, qr/exit signal/, 'no child has crashed');
is(join(' ', glob $s->rundir . '/*.tmp*'), '', 'no temporary file is left');

done_testing;
