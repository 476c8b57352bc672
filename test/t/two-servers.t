# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Two servers with the same names in one directory: one of them stores, and the
# other one takes over when the first has stopped (contract, B2).

use strict;
use warnings;

use File::Temp qw(tempdir);
use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;

plan skip_all => 'the module has no SlotmemPersistDir'
    if !SlotmemServer->has_directive('SlotmemPersistDir');

my $directory = tempdir('slotmem-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0700, $directory;
my @numbers = (1, 2);
my (%server, %api, %config);
for my $n (@numbers) {
    my $create = 'SlotmemTest post_config create size=16 num=4 type=persist';
    $config{$n} = "SlotmemPersistDir $directory\n"
        . "$create name=both\n$create name=also\n$create name=only$n\n";
    $server{$n} = SlotmemServer->new(servers => 1, config => $config{$n});
    $api{$n}    = SlotmemApi->new($server{$n});
}
my ($first, $second) = @server{@numbers};

# No checkpoints, or several per second.
sub checkpoints {
    my ($n, $on) = @_;
    return $server{$n}->config($config{$n} . 'SlotmemCheckpointInterval '
            . ($on ? "1\nSlotmemTest post_config hurry ms=20\n" : "0\n"));
}

sub path { return "$directory/slotmem-shm-$_[0].shm.persist" }

sub stored {
    my $name  = shift;
    my $bytes = SlotmemServer::slurp(path($name));
    return SlotmemFile::decode($bytes, 16, 4)->{slots}[1] // '';
}

sub aside {
    my $n     = shift;
    my $bytes = SlotmemServer::slurp(path('both') . ".bad-$n");
    return SlotmemFile::decode($bytes, 16, 4)->{slots}[1] // '';
}

sub put {
    my ($n, $data, @names) = @_;
    $api{$n}->run(map { ("put name=$_ id=1 len=16 data=$data") } @names);
    return;
}

sub has {
    my ($n, $name) = @_;
    return $api{$n}->run("dptr name=$name id=1")->{data};
}

# The lines that report it for a name, with the pid of a server.
sub said {
    my ($n, $name, $other) = @_;
    return $server{$n}->log_has('SLOTMEM-14', 'warn', $name, path($name),
        $server{$other}->parent);
}

# How often a server has reported for any name that another one stores it.
sub met_another {
    my $server = shift;
    return $server->log_has('SLOTMEM-14', '*');
}

# Makes a change that is certainly stored, and so waits for a round of all
# names.
my $round = 0;
sub after_checkpoint {
    my $n = shift;
    for my $want (map { "round" . ++$round } 1 .. 2) {
        put($n, $want, "only$n");
        $server{$n}->wait_until('a checkpoint',
            sub { stored("only$n") eq $want });
    }
    return;
}

checkpoints(1, 0);
checkpoints(2, 1);
$first->start;
put(1, 'one', qw(both also only1));
$first->graceful;
is(stored('both'), 'one', '[B2] the first server stores');

# The second one starts, restores, reports it, and does not store these.
$second->log_mark;
$second->start;
is(has(2, 'both'), 'one', '[B2] the second server starts, and restores');
is(said(2, 'both', 1), 1, '[B2] ... and reports once whose file it is')
    or diag($second->log_since);
is(said(2, 'also', 1), 1, '[B2] ... for each name');
put(2, 'two', qw(both also));
after_checkpoint(2);
is(stored('both'), 'one', '[B2] it does not store over the other\'s file');
is(stored('also'), 'one', '[B2] ... for any name');
like(stored('only2'), qr/^round/, '[B2] ... but it stores its own names');
is(said(2, 'both', 1), 1, '[B2] ... and does not repeat the line');
is($second->log_count(qr/slotmem_shm:(?:error|crit)/), 0, '[B2] ... no error');
$second->graceful;
is(stored('both'), 'one', '[B2] it does not store at a restart either');
is(has(2, 'both'), 'two', '[B12] ... but keeps its own state across it');
for my $n (1 .. 3) {
    put(2, "two$n", qw(both also));
    $second->graceful;
    is(has(2, 'both') . has(2, 'also'), "two$n" x 2,
        "[B12] ... and across the next ones: $n");
}
is(stored('both'), 'one', '[B12] ... while the file stays the first one\'s');
is(has(2, 'only2'), "round$round", '[B2] ... and its own');

# The first one continues across restarts, and never releases the lock.
put(2, 'two', qw(both also));
$second->log_mark;
for my $how (qw(graceful restart graceful)) {
    put(1, $how, qw(both only1));
    $first->log_mark;
    $first->$how;
    is(stored('both'), $how, "[B2] the first server keeps storing: $how");
    is(has(1, 'both'), $how, "[B2] ... and restores: $how");
    is(met_another($first), 0, "[B2] ... the file is its own: $how");
    after_checkpoint(2);
    is(stored('both'), $how, "[B2] ... the second one does not store: $how");
}

# Not even in the middle of a restart, when nothing of the old generation is
# left, and the new one does not exist yet.
my ($at, $gate) = map { $first->root . "/$_" } qw(at gate);
my $slow = "SlotmemTest post_config wait at=$at file=$gate max=15\n";
$first->append_config($slow);
put(1, 'slow', 'both');
$first->restart(during => sub {
    $first->wait_until('the new configuration', sub { -e $at });
    after_checkpoint(2);
    is(stored('both'), 'slow', '[B2] ... nor in the middle of a restart');
    open my $out, '>', $gate or die "$gate: $!";
    close $out;
});
$first->config($first->config =~ s/\Q$slow\E//r);
is($second->log_has('SLOTMEM-13', '*'), 0, '[B2] it has not released the lock');
is(scalar(grep { (readlink) =~ /slotmem-shm\.lock/ }
        grep { -l } glob '/proc/' . $first->parent . '/fd/*'), 1,
    '... and after all these restarts the lock file is open only once');

# It stops: the second one takes over at its next checkpoint.
put(1, 'last', 'both');
my $pid = $first->parent;
$first->stop;
$second->wait_until('the checkpoint', sub { stored('both') eq 'two' });
pass('[B2] when the first has stopped, a checkpoint of the second stores');
after_checkpoint(2);
is($second->log_has('SLOTMEM-13', 'notice', 'both', path('both'), $pid), 1,
    '[B2] ... and reports it once') or diag($second->log_since);
is(stored('only1'), 'graceful',
    '[B2] ... but does not store other names');
is(aside(1), 'last', '[E9] the last file of the first one is kept');
is($second->log_has('SLOTMEM-41', 'warn', 'both', path('both'),
    path('both') . '.bad-1'), 1, '[E9] ... and a line reports it');

# The other way round; and taken over at a restart, without a checkpoint.
$first->log_mark;
$first->start;
is(has(1, 'both'), 'two', '[B2] the first one, back, restores that');
is(said(1, 'both', 2), 1, '[B2] ... and is now the one that reports it');
put(1, 'mine', 'both');
put(2, 'end', 'both');
$pid = $second->parent;
$second->stop;
is(stored('both'), 'end', '[B2] the second stores when it stops');
$first->log_mark;
$first->graceful;
is(stored('both'), 'mine', '[B2] then the first one does, at its restart');
is(aside(2), 'end', '[E9] ... and keeps a file that it neither read nor wrote');
is($first->log_has('SLOTMEM-13', 'notice', 'both', path('both'), $pid), 1,
    '[B2] ... says so') or diag($first->log_since);

# Children that outlive a killed parent hold no lock.
$first->kill_parent;
cmp_ok(scalar $first->processes, '>', 0, 'children are still alive');
$second->log_mark;
$second->start;
is(met_another($second), 0,
    '[B2][B7] children of a killed parent have no files open') or
    diag($second->log_since);
is(has(2, 'both'), 'mine', '[B2] ... the state that it stored is restored');
put(2, 'after', 'both');
$second->wait_until('the checkpoint', sub { stored('both') eq 'after' });
pass('[B2] ... and the next server stores');
$first->end_children;

# Killed with its children, and started again.
kill 'KILL', $second->processes;
$second->wait_until('kill', sub { !$second->processes });
$second->reap;
$second->log_mark;
$second->start;
is(met_another($second), 0, '[B7] killed processes hold no lock');
is(has(2, 'both'), 'after', '[B2] ... and the state is restored');

# The older one drains: a request is in flight while it stops gracefully, and
# the newer one restarts three times. The file belongs to the older one until
# the end; the newer one keeps its own state, and then takes over.
$first->config($config{1} . "SlotmemCheckpointInterval 0\n"
        . "GracefulShutdownTimeout 30\n");
$second->stop;
$first->start;
put(1, 'drains', 'both');
$first->graceful;
my ($entered, $leave) = map { $first->root . "/$_" } qw(entered leave);
my ($client) = $api{1}->start(["wait at=$entered file=$leave max=30"]);
$first->wait_until('the request', sub { -e $entered });
$first->settle;
kill 'WINCH', $first->parent or die $!;
$first->wait_until('the older one to stop listening',
    sub { !$first->get('/server-status')->is_success });
$second->log_mark;
$second->start;
is(met_another($second), 3 - 1, '[B2] a newer server while an older drains');
for my $n (1 .. 3) {
    put(2, "newer$n", qw(both also));
    $second->graceful;
    is(has(2, 'both') . has(2, 'also'), "newer$n" x 2,
        "[B12] ... restart $n of the newer keeps its state");
    is(stored('both'), 'drains', '[B2] ... and the older one\'s file');
}
cmp_ok(scalar $first->processes, '>', 1, '... which is still draining');

# It is stopped while the other one still drains: its changes are lost, and a
# line reports it. The next server has the file's state.
$second->log_mark;
$second->stop;
is($second->log_has('SLOTMEM-35', 'error', $_, path($_), $first->parent), 1,
    "[B12] a stop while another server holds the file: a line for $_")
    or diag($second->log_since)
    for qw(both also);
is($second->log_count(qr/slotmem_shm:(?:error|crit)/), 2, '[B12] ... no other');
is(stored('both'), 'drains', '[B2] ... and the file has not changed');
$second->start;
is(has(2, 'both'), 'drains', '[B2] ... and restored');
put(2, 'newest', 'both');
open my $go, '>', $leave or die "$leave: $!";
close $go;
$api{1}->finish($client);
$first->wait_until('the end of the older one', sub { !$first->processes });
$first->reap;
$second->wait_until('the checkpoint', sub { stored('both') eq 'newest' });
pass('[B2] when it has drained, the newer one stores');

# Servers with other names in the same directory do not conflict.
$first->config($config{1} =~ s/name=(both|also)\b/name=other$1/gr);
$first->log_mark;
$second->log_mark;
$first->start;
put(1, 'x', 'otherboth');
put(2, 'y', 'both');
$_->graceful for $first, $second;
is(stored('otherboth') . stored('both'), 'xy', '[B2] other names: both store');
is(met_another($_), 0, '[B2] ... and neither conflicts with the other')
    for $first, $second;
my @lock = stat "$directory/slotmem-shm.lock";
is($lock[7], 0, 'the lock file is empty');
is($lock[2] & 07777, 0600, '... and only its owner can access it');
$_->stop for $first, $second;

unlike($first->log . $second->log, qr/exit signal/, 'no child has crashed');
is(join(' ', glob "$directory/*.tmp*"), '', 'nothing else is left');

done_testing;
