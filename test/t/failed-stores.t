# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Stores that fail: one line reports it, the last good file stays intact, and
# the next store tries again (contract, B2 and E3).

use strict;
use warnings;

use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;

my $s    = SlotmemServer->new(servers => 1);
my $api  = SlotmemApi->new($s);
my $root = $s->root;

# A directory for each way in which creating a new file can fail: its segments,
# the reason, and the step.
my ($create, $open) = map { my $text = SlotmemServer->step($_); qr/\Q$text/ }
    qw(create open-directory);
my %broken = (
    readonly => [['one', 'two'], qr/denied/,       $create],
    missing  => [['one'],        qr/No such file/, $open],
    blocked  => [['one'],        qr/denied/,       $open],
);
my @names = map { my $in = $_; map { "$root/$in/$_" } @{ $broken{$in}[0] } }
    sort keys %broken;
my $sound = "$root/sound";
my $shape = join '', map {
    "SlotmemTest post_config create name=$_ size=16 num=4 type=persist\n"
} @names, $sound;
my $hurry = "SlotmemTest post_config hurry ms=20\n";

sub put_file {
    my ($path, $bytes) = @_;
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} $bytes;
    close $out or die "$path: $!";
    return;
}

sub path { return shift() . '.persist' }

sub break_all {
    chmod 0555, "$root/readonly" or die $!;
    rename "$root/missing", "$root/gone" or die $!;
    chmod 0, "$root/blocked" or die $!;
    return;
}

sub repair_all {
    chmod 0755, "$root/readonly" or die $!;
    rename "$root/gone", "$root/missing" or die $!;
    chmod 0700, "$root/blocked" or die $!;
    return;
}

# Slot 1 of a stored file, if the file is complete.
sub stored {
    my $name = shift;
    my $file = SlotmemFile::decode(SlotmemServer::slurp(path($name)), 16, 4);
    return $file->{digest_ok} && $file->{exact} ? $file->{slots}[1] : 'broken';
}

sub put {
    my ($data, @to) = @_;
    $api->run(map { ("put name=$_ id=1 len=16 data=$data") } @to);
    return;
}

# A checkpoint tries all segments in turn: after two stores of the good segment,
# all have been tried.
my $round = 0;
sub after_checkpoint {
    for my $want (map { 'round' . ++$round } 1 .. 2) {
        put($want, $sound);
        $s->wait_until('a checkpoint', sub { stored($sound) eq $want });
    }
    return;
}

# One line since the log mark for each way to fail. A module that writes in
# place can store in some of these cases and logs nothing there: only a missing
# directory is a failure for any module.
sub said_once {
    my $when = shift;
    for my $in (sort keys %broken) {
        my ($names, $why, $step) = @{ $broken{$in} };
        my $segment = "$root/$in/$names->[0]";
        my $tag     = $when eq 'stop' ? 'SLOTMEM-34' : 'SLOTMEM-17';
        my @failed  = ($tag, 'error', $segment, path($segment));
        my $line    = $in eq 'missing' ? '[E3] ' : '';
        is($s->log_only(@failed), 1, "$line$when: one error line: $in")
            or diag($s->log_since);
        is($s->log_has(@failed, $step), 1, '... with the step');
        is($s->log_has(@failed, $why), 1, '... with the reason');
    }
    is($s->log_has($when eq 'stop' ? 'SLOTMEM-34' : 'SLOTMEM-17', 'error',
            path("$root/readonly/one"), 1), 1,
        '... those with the same failure share a line');
    is($s->log_count(qr/slotmem_shm:error/), scalar keys %broken,
        "$when: and nothing else");
    return;
}

# A module that writes in place can store where no file can be created.
sub files_are {
    my ($data, $when) = @_;
    rename "$root/gone", "$root/missing" if my $gone = -d "$root/gone";
    chmod 0700, "$root/blocked" if $gone;
    my @stored = map { stored($_) } @names;
    is(scalar(grep { /^(?:broken|)$/ } @stored), 0,
        "[B2][E3] $when: each file is complete") or diag("@stored");
    is("@stored", join(' ', ($data) x @names), '... and the last good one');
    rename "$root/missing", "$root/gone" if $gone;
    chmod 0, "$root/blocked" if $gone;
    return;
}

mkdir "$root/$_" or die "$root/$_: $!" for keys %broken;

# ---- checkpoints ----

my $interval = 'SlotmemCheckpointInterval';
my $has      = SlotmemServer->has_directive($interval);
SKIP: {
    skip "no $interval", 23 if !$has;
    $s->config("$interval 1\n$hurry$shape");
    $s->start;
    put('good', @names);
    $s->restart;
    files_are('good', 'before');
    break_all();
    $s->log_mark;
    put('lost', @names);
    after_checkpoint();
    said_once('checkpoint');
    files_are('good', 'failed checkpoints');
    $s->log_mark;
    put('late', @names);
    after_checkpoint();
    is($s->log_count(qr/slotmem_shm:(?:error|warn|notice)/), 0,
        '[B2][E3] the next checkpoint does not repeat it')
        or diag($s->log_since);

    # Another reason gets another line.
    put_file("$root/missing", '');
    after_checkpoint();
    is($s->log_has('SLOTMEM-17', 'error', path("$root/missing/one"), $open,
        qr/Not a directory/), 1,
        '[E3] another reason is reported again') or diag($s->log_since);
    unlink "$root/missing";

    $s->log_mark;
    repair_all();
    $s->wait_until('a checkpoint', sub {
        @names == grep { stored($_) eq 'late' } @names
    });
    pass('[B2][E3] the next checkpoint tries again, and stores');
    after_checkpoint();
    for my $name (@names) {
        is($s->log_only('SLOTMEM-16', 'notice', $name, path($name)), 1,
            '[B2] a store that has recovered reports it once: '
                . $name =~ s/^\Q$root//r)
            or diag($s->log_since);
    }
    is($s->log_count(qr/slotmem_shm:error/), 0, '[B2] ... and no error');
}

# ---- restarts and stop ----

for my $how (qw(graceful restart stop)) {
    $s->config(($has ? "$interval 0\n" : '') . $shape);
    $s->$_ for $s->processes ? 'graceful' : 'start';
    put("$how-good", @names);
    $s->graceful;
    files_are("$how-good", "before $how");
    put("$how-lost", @names);
    break_all();
    $s->log_mark;
    $s->$how;
    said_once($how);
    repair_all();
    files_are("$how-good", $how);
    $s->start if $how eq 'stop';
}
is($api->run("dptr name=$names[0] id=1")->{data}, 'stop-good',
    'the last good file is restored');

# ---- state that restarts keep in memory ----

sub has {
    my $data = shift;
    my @got  = $api->run(map { ("dptr name=$_ id=1") } @names);
    return @names == grep { $_->{data} eq $data } @got;
}

# The bytes of private memory of the parent.
sub memory {
    my ($kb) = SlotmemServer::slurp('/proc/' . $s->parent . '/status')
        =~ /^VmData:\s+(\d+)/m;
    return $kb * 1024;
}

# Five restarts, with a change before each that cannot be stored; then stores
# succeed again.
$s->config(($has ? "$interval 0\n" : '') . $shape);
put('carry-good', @names);
$s->graceful;
break_all();
for my $n (1 .. 5) {
    my $how = $n == 3 ? 'restart' : 'graceful';
    put("carry$n", @names);
    $s->log_mark;
    $s->$how;
    ok(has("carry$n"), "[B12] restart $n, $how: no state is lost");
    is($s->log_has('SLOTMEM-30', 'info'), scalar @names,
        '[B12] ... each was restored from memory');
    is($s->log_count(qr/slotmem_shm:error.*SLOTMEM-17: /), scalar keys %broken,
        '[E3] ... and one line for each reason reports it');
}
files_are('carry-good', 'five restarts');
repair_all();
$s->log_mark;
$s->stop;
files_are('carry5', 'and a stop that can store again');
is($s->log_count(qr/slotmem_shm:notice.*SLOTMEM-16: /), scalar @names,
    '[B12] ... which says that they are stored again') or diag($s->log_since);
$s->start;
ok(has('carry5'), '[B12] ... the next start has it');

# A name that the new configuration no longer has is still written; one that has
# another shape is kept in the same way as a refused file.
put('gone', @names);
break_all();
my $gone  = $names[0];
my $other = $names[1];
$s->config(($has ? "$interval 0\n" : '') . $shape =~ s/.*\Q$gone\E .*\n//r
        =~ s/(\Q$other\E size=)16/${1}24/r);
$s->log_mark;
$s->graceful;
is($s->log_has('SLOTMEM-31', 'error', $other), 1,
    '[B12] state in memory that does not fit: one line') or diag($s->log_since);
repair_all();
$s->graceful;
is(stored($gone), 'gone', '[B12] a removed name is still stored');
my $bad = SlotmemServer::slurp(path($other) . '.bad-1');
is(SlotmemFile::decode($bad, 16, 4)->{slots}[1], 'gone',
    '[B12] the state that did not fit is kept like a refused file');
ok(SlotmemFile::decode(SlotmemServer::slurp(path($other)), 24, 4)->{digest_ok},
    '[B12] ... and the new segment is stored');

# Two changes of the shape without a store in between: the state that did not
# fit the first time is lost.
break_all();
put('twice', $other);
for my $size (16, 32) {
    $s->config(($has ? "$interval 0\n" : '')
            . $shape =~ s/(\Q$other\E size=)16/$1$size/r);
    $s->log_mark;
    $s->graceful;
    is($s->log_has('SLOTMEM-31', 'error', $other), 1,
        "[B12] state in memory that does not fit, $size: one line");
    is($s->log_has('SLOTMEM-38', 'error', $other, path($other)),
        $size == 32 ? 1 : 0, '[B12] ... earlier unfitting state is lost')
        or diag($s->log_since);
}
repair_all();
$s->config(($has ? "$interval 0\n" : '') . $shape);
$s->stop;
unlink path($other), map { glob path($_) . '.bad-*' } @names;
$s->start;

# The disk is broken and the restart fails too, which is a stop.
put('last', @names);
$s->graceful;
put('lost', @names);
break_all();
$s->log_mark;
$s->config("NoSuchDirective on\n");
ok(defined $s->restart_fails('USR1'), 'a restart that fails');
is($s->log_has('SLOTMEM-39', 'error'), scalar @names,
    '[B12] state that was only in memory is lost, and the log reports it')
    or diag($s->log_since);
repair_all();
files_are('last', 'a restart that fails');

# Memory does not grow with the restarts, although each keeps more than half a
# megabyte.
$s->config(($has ? "$interval 0\n" : '') . $shape
        . "SlotmemTest post_config create name=$root/missing/large size=65536"
        . " num=10 type=persist\n");
$s->start;
put('many', @names);
break_all();
my $before;
for my $n (1 .. 45) {
    $s->graceful;
    $before = memory() if $n == 5;
}
cmp_ok(memory() - $before, '<', 3_000_000,
    '[B12] forty restarts with failed stores take no more memory');
ok(has('many'), '[B12] ... and lose nothing');
repair_all();
$s->graceful;
unlink "$root/missing/large.persist" or die $!;

# ---- no process, no memory ----

# fork fails when the generation ends: one line, and memory has the state.
my $generation = ($has ? "$interval 0\n" : '') . $shape;
my $lift = 'SlotmemTest post_config-first limit';
$s->config("$generation$lift processes=100000\n"
        . "SlotmemTest cleanup limit processes=0\n");
$s->graceful;
put('alone', @names);
$s->log_mark;
$s->graceful;
SKIP: {
    skip 'no such limit here', 3
        if $s->log_since !~ /cleanup op=limit.*?status=APR_SUCCESS/s;
    is($s->log_has('SLOTMEM-36', 'error', qr/temporarily unavailable/), 1,
        '[B12] no storing process: one line') or diag($s->log_since);
    is($s->log_count(qr/slotmem_shm:(?:error|warn)/), 1, '[B12] ... no other');
    ok(has('alone'), '[B12] ... and no state is lost');
}

# Neither disk space nor memory for a copy: that state is lost, and a line
# reports it; the state of the others is kept.
my $vast = "$root/missing/vast";
$s->config("$generation$lift processes=100000 memory=-1\n"
        . "SlotmemTest post_config create name=$vast size=65536 num=400"
        . " type=persist\n"
        . "SlotmemTest cleanup limit memory=12000000\n");
$s->graceful;
$api->run("poke name=$vast id=399 data=old");
put('kept', @names);
$s->log_mark;
$s->graceful;
is($api->run("dptr name=$vast id=399")->{data}, 'old',
    '[B12] no memory for a copy, but disk space: nothing is lost');
is($s->log_count(qr/slotmem_shm:(?:error|warn)/), 0, '[B12] ... without a line')
    or diag($s->log_since);
$s->config($s->config =~ s/^.*cleanup limit.*\n//mr);
break_all();
$api->run("poke name=$vast id=399 data=new");
$s->log_mark;
$s->graceful;
is($s->log_has('SLOTMEM-33', 'error', $vast, path($vast)), 1,
    '[B12] no memory either: one line for the lost state')
    or diag($s->log_since);
is($s->log_has('SLOTMEM-33', 'error'), 1, '[B12] ... and for nothing else');
ok(has('kept'), '[B12] ... the others keep their state');
repair_all();
$s->config($generation);
$s->graceful;
unlink path($vast), path($vast) . '.bad-1';

# ---- file descriptors ----

# A hundred and fifty files, stored with few descriptors left.
my @many = map { "many$_" } 1 .. 150;
sub file_of { return $s->rundir . '/slotmem-shm-' . shift() . '.shm' }
$s->stop;      # its descriptors start at the lowest again
for my $spare (1, 20) {
    $s->config(join '', "SlotmemTest post_config-first limit spare=100000\n",
        "SlotmemTest cleanup limit spare=$spare\n",
        map { "SlotmemTest post_config create name=$_ size=16 num=4"
                . " type=persist\n" } @many);
    $spare == 1 ? $s->start : $s->graceful;
    for my $how (qw(graceful stop)) {
        my @wanted = @many;
        my $data   = "$how$spare";
        $api->run(map { ("put name=$_ id=1 len=16 data=$data") }
                splice @wanted, 0, 50) while @wanted;
        $s->log_mark;
        $s->$how;
        is(scalar(grep { stored(file_of($_)) eq $data } @many), 150,
            "[B2] $how with $spare descriptors left: all are stored")
            or diag($s->log_since);
        is($s->log_count(qr/slotmem_shm:(?:error|warn)/), 0, '... no error');
        $s->start if $how eq 'stop';
    }
}
$s->stop;

# ---- copies of what is stored ----

# A copy of 25 MB takes memory during a restart only, also in processes that
# other modules start meanwhile.
$s->modules('cgid');
$s->config("ScriptSock cgid\nSlotmemTest post_config create name=wide"
        . " size=65536 num=400 type=persist\n"
        . "SlotmemTest post_config fgrab name=wide id=399\n");
$s->start;
$api->run('poke name=wide id=399 data=copied');
$s->graceful for 1 .. 2;
is($api->run('dptr name=wide id=399')->{data}, 'copied',
    '[B2] a large segment is restored');
my @private = map {
    SlotmemServer::slurp("/proc/$_/smaps_rollup") =~ /^Anonymous:\s+(\d+)/m
} $s->processes;
is(join(' ', grep { $_ > 16_000 } @private), '',
    '... and after the restart no process has its copy');
$s->stop;

unlike($s->log, qr/exit signal/, 'no child has crashed');
is(join(' ', glob "$root/*/*.tmp* $root/*/*.bad*"), '', 'nothing else is left');

done_testing;
