# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# A disk that is slow or hangs: the parent does not wait for it, and no state is
# lost (contract, B12, B14 and B15).

use strict;
use warnings;

use SlotmemApi;
use SlotmemDisk;
use SlotmemFile;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the module has no SlotmemCheckpointInterval'
    if !SlotmemServer->has_directive('SlotmemCheckpointInterval');

my @names = map { "seg$_" } 1 .. 8;
my $shape = join '', map {
    "SlotmemTest post_config create name=$_ size=16 num=4 type=persist\n"
} @names;
my $hurry = "SlotmemTest post_config hurry ms=20\n";
my $often = "SlotmemCheckpointInterval 1\n$hurry";
my $never = "SlotmemCheckpointInterval 0\n";

my $s    = SlotmemServer->new(timeout => 60);
my $api  = SlotmemApi->new($s);
my $disk = SlotmemDisk->new($s);

sub path { return $s->rundir . '/slotmem-shm-' . shift() . '.shm.persist' }

sub stored {
    my $bytes = SlotmemServer::slurp(path(shift));
    my $file  = SlotmemFile::decode($bytes, 16, 4);
    return $file->{digest_ok} && $file->{exact} ? $file->{slots}[1] : 'broken';
}

sub all_stored {
    my $data = shift;
    return @names == grep { stored($_) eq $data } @names;
}

sub put {
    my $data = shift;
    $api->run(map { ("put name=$_ id=1 len=16 data=$data") } @names);
    return;
}

sub all_have {
    my $data = shift;
    my @got  = $api->run(map { ("dptr name=$_ id=1") } @names);
    return @names == grep { $_->{data} eq $data } @got;
}

sub errors { return $s->log_count(qr/slotmem_shm:(?:error|crit|alert)/) }

sub took(&) {
    my $what  = shift;
    my $started = time;
    $what->();
    return time - $started;
}

# A store of all eight is running, and takes half a minute.
sub begin_slow_store {
    $disk->set(delay => 4000);
    put(shift);
    $s->wait_until('a store', sub { $disk->storing });
    return;
}

sub restart_begins {
    my ($signal, $mark) = @_;
    $s->settle;
    kill $signal, $s->parent or die $!;
    return $s->wait_until('the restart', sub {
        $s->log_since($mark) =~ /resuming normal operations/;
    });
}

# ---- while the server runs ----

$s->config($often . $shape);
$disk->start;
put('first');
$s->wait_until('a checkpoint', sub { all_stored('first') });
$s->log_mark;
begin_slow_store('slow');
my %old = map { $_ => 1 } $disk->others;
kill 'KILL', keys %old or die $!;
my $time = took { $s->wait_until('a new child', sub {
    grep { !$old{$_} } $disk->others
}) };
cmp_ok($time, '<', 2,
    '[B14] crashed children are replaced while a store hangs');
$time = took { $api->run('get name=seg1 id=1') };
cmp_ok($time, '<', 2, '[B14] ... and a request is answered');
$s->wait_until('one process that stores', sub { 1 == (() = $disk->storing) });
is(scalar(() = $disk->storing), 1, '[B14] one process stores');

# A restart ends that process, and does not wait for the next one.
put('live');
my $mark = -s $s->log_file;
my $started = time;
$s->settle;
kill 'USR1', $s->parent or die $!;
my $answer = took { $api->run('info name=seg1') };
$s->wait_until('the restart', sub {
    $s->log_since($mark) =~ /resuming normal operations/
});
cmp_ok(time - $started, '<', 3, '[B14] a graceful restart takes less than 3 s');
cmp_ok($answer, '<', 2, '[B14] ... a request in it less than 2 s');
$s->wait_ready($mark, %old);
ok(!all_stored('live'), 'none of that is on the disk');
ok(all_have('live'), '[B12] ... but none of it is lost');
is($s->log_has('SLOTMEM-32', 'warn', 7), 1,
    '[B12] ... one line reports it') or diag($s->log_since);
is($s->log_has('SLOTMEM-30', 'info'), 8,
    '[B12] ... and one line each that it was restored from memory');
is(scalar(() = $disk->storing), 1, '[B12] the process continues');

# The next restart too, and a hard one: state in memory is kept again.
put('again');
$mark = -s $s->log_file;
restart_begins('HUP', $mark);
$s->wait_ready($mark, %old);
ok(all_have('again'), '[B12] the same for a hard restart right after it');
$s->wait_until('one process that stores', sub { 1 == (() = $disk->storing) });
is(scalar(() = $disk->storing), 1, '[B14] one process stores');
$disk->well;
$s->wait_until('the store', sub { all_stored('again') });
pass('[B12] when the disk works again the state is stored');
put('later');
$s->wait_until('a checkpoint', sub { all_stored('later') });
pass('[B2] ... and checkpoints continue');
is(errors(), 0, '... without an error') or diag($s->log_since);

# The process is killed: one line, and the next one stores. httpd logs a child
# that it does not know only after a graceful restart.
$s->graceful;
$s->log_mark;
$disk->set(hold => '');
put('killed');
$s->wait_until('a store', sub { $disk->storing });
kill 'KILL', $disk->storing;
$s->wait_until('a line', sub {
    $s->log_count(qr/slotmem_shm:error.*SLOTMEM-17: .*ended early/)
});
is($s->log_count(qr/long lost child/), 0, '[B14] httpd knows the process');
$disk->well;
$s->wait_until('the next store', sub { all_stored('killed') });
$s->wait_until('the lines', sub {
    $s->log_count(qr/slotmem_shm:notice.*SLOTMEM-16: /) == 8
});
pass('[B12] a killed process: the next one stores everything again');
is(errors(), 1, '[B12] ... with one line for all') or diag($s->log_since);

# A report that is nonsense or impossible counts as none. The next store writes
# all files again, including unchanged ones.
for my $byte (255, 3) {
    my %before = map { $_ => (stat path($_))[1] } @names;
    $s->log_mark;
    $disk->set(report => $byte);
    $api->run("put name=seg1 id=1 len=16 data=report$byte");
    $s->wait_until('the lines', sub {
        $s->log_count(qr/slotmem_shm:notice.*SLOTMEM-16: /) == 8
    });
    ok(!$disk->is_set('report'), "a report full of $byte");
    is($s->log_has('SLOTMEM-17', 'error', 7,
        qr/\b\Q@{[SlotmemServer->step('finish')]}\E\b/), 1,
        '[B12] ... one line says that the stores have failed')
        or diag($s->log_since);
    is(errors(), 1, '[B12] ... and no other');
    is(stored('seg1'), "report$byte", '[B12] ... the next one stores');
    is(scalar(grep { (stat path($_))[1] == $before{$_} } @names), 0,
        '[B12] ... all files, including unchanged ones');
}

# A store that takes more than five minutes is reported, once.
$s->log_mark;
$disk->set(hold => '');
put('long');
$s->wait_until('a store', sub { $disk->storing });
my ($storing) = $disk->storing;
$disk->set(ahead => $s->parent);
$s->wait_until('a line', sub { $s->log_has('SLOTMEM-37', 'warn', $storing) });
is($s->log_count(qr/slotmem_shm:(?:warn|error)/), 1,
    '[B14] a store of ten minutes: a line reports it') or diag($s->log_since);
put('longer');
sleep 1.5;
is($s->log_has('SLOTMEM-37', 'warn', $storing), 1, '[B14] ... once');
is(join(' ', $disk->storing), $storing, '[B14] ... and nothing else stores');
$disk->well;
$s->wait_until('a checkpoint', sub { all_stored('longer') });
pass('[B2] ... until it has ended, whatever the clock says');

# SIGTERM ends the children at once; the parent then stores.
$s->log_mark;
begin_slow_store('stop');
put('stopped');
my $parent = $s->parent;
$s->settle;
$time = took {
    kill 'TERM', $parent or die $!;
    $s->wait_until('end of the children', sub { !$disk->others });
};
cmp_ok($time, '<', 2, '[B14] SIGTERM ends the children at once');
$disk->well;
$s->stop;
ok(all_stored('stopped'), '[B2] ... and the parent stores after that');

# ---- a store that fails once, at stop ----

# The disk is a little slow: the process that starts when the first child exits
# must not finish before the parent stores.

$s->config($never . $shape);
$disk->start;
put('twice');
$s->log_mark;
$disk->set(delay => 100);
$disk->set(fail => $s->parent);
$s->stop;
ok(!$disk->is_set('fail'), 'an fsync has failed at stop');
ok(all_stored('twice'), '[B12] ... and the second try has stored everything');
is(errors(), 0, '[B12] ... without a line') or diag($s->log_since);
$disk->well;

# By then the new files are at their paths, and are the server's.
$disk->start;
put('again');
$s->log_mark;
$disk->set(delay => 100);
$disk->set(faildir => $s->parent);
$s->stop;
ok(!$disk->is_set('faildir'), 'the fsync of a directory has failed at stop');
ok(all_stored('again'), '[B12] ... and the second try has stored everything');
is(join(' ', glob $s->rundir . '/*.bad-*'), '',
    '[E9] ... and has set nothing aside');
is($s->log_count(qr/slotmem_shm:(?:warn|error)/), 0, '[B12] ... without a line')
    or diag($s->log_since);
$disk->well;

# ---- a disk that cannot be read ----

# The parent carries in memory also what it has stored.
$s->config($never . $shape);
$disk->start;
put('memory');
$s->log_mark;
$disk->set(unread => $s->parent);
for my $signal (qw(USR1 HUP)) {
    $s->signal_restart($signal);
    ok(all_have('memory'), "[B12] restart by $signal: no file is read");
}
is(errors(), 0, '[B12] ... and no error is logged') or diag($s->log_since);
$disk->well;
$s->stop;
ok(all_stored('memory'), '[B12] ... and everything is stored');

# ---- a restart that fails ----

# The restart fails while the configuration is read, in its middle or at its
# end; when everything is on the disk, and while a process still stores.
my @failures = ('Include missing.conf', 'NoSuchDirective on',
    'SlotmemTest post_config-last fail');
for my $delay (0, 4000) {
    for my $i (0 .. $#failures) {
        my $data = "good$delay-$i";
        $s->config($never . $shape);
        $disk->start;
        put($data);
        $s->log_mark;
        $disk->set(delay => $delay);
        $s->config("$never$shape$failures[$i]\n");
        $parent = $s->parent;
        $s->settle;
        kill 'USR1', $parent or die $!;
        if ($delay) {
            sleep 2;    # a restart waits for 1.5 s
            ok($s->is_alive($parent), 'the parent waits for the process');
        }
        $disk->well;
        $s->wait_until('its end', sub { !$s->is_alive($parent) });
        $s->end_processes;
        ok(all_stored($data),
            "[B12] a restart that fails, $failures[$i], $delay ms: all stored");
        is(errors(), 0, '[B12] ... without an error') or diag($s->log_since);
    }
}

# ---- graceful-stop ----

# A request is in flight in one child; the others exit at once.
$s->config($never . "GracefulShutdownTimeout 30\n" . $shape);
$disk->start;
put('graceful');
my ($at, $gate) = map { $s->root . "/$_" } qw(at gate);
my ($client) = $api->start(["wait at=$at file=$gate max=30"]);
$s->wait_until('the request', sub { -e $at });
$s->settle;
kill 'WINCH', $s->parent or die $!;
$s->wait_until('a store', sub { all_stored('graceful') });
cmp_ok(scalar(() = $disk->others), '>', 0, 'the request is still in flight');
pass('[B15] graceful-stop stores after the first child has exited');
kill 'KILL', $s->processes;
$s->wait_until('the end', sub { !$s->processes });
$s->reap;
$api->finish($client);
$s->start;
ok(all_have('graceful'), '[B15] ... and a later kill -9 loses nothing');
$s->stop;

is(join("\n", grep {/long lost child|exit signal (?!Killed)/} split /\n/,
        $s->log), '', 'no child has crashed, and none was lost');
is(join(' ', glob $s->rundir . '/*.tmp* ' . $s->rundir . '/*.bad*'), '',
    'nothing else is left');

done_testing;
