# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Segments that a child creates at run time (contract, B8).

use strict;
use warnings;

use File::Basename qw(dirname);
use POSIX qw(SIGKILL SIGSTOP);
use SlotmemApi;
use SlotmemDisk;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $s = SlotmemServer->new(servers => 4, config => <<'EOT');
SlotmemTest post_config create name=configured size=8 num=2
EOT
my $api  = SlotmemApi->new($s);
my $disk = SlotmemDisk->new($s);
$disk->start;

my ($creator, $sibling, $third, $fourth) = $s->children;
my $shape = 'size=40 num=3 type=pregrab,persist';

# Before any child has created a segment, and after that.
for my $when ('before any was created', 'after one was created') {
    $s->log_mark;
    my $answer = $api->run_in($sibling, 'attach name=unknown');
    isnt($answer->{status}, 'APR_SUCCESS', "[B8] an unknown name $when");
    is(join(' ', @$answer{qw(inst size num)}),
        'untouched untouched untouched', '[B8][D2] ... touches nothing');
    unlike($s->log_since, qr/slotmem_shm:(?!debug|trace)/,
        '[B8][D2] ... and logs nothing');
    last if $when =~ /after/;

    my @made = $api->run_in($creator, "create name=run $shape",
        'grab name=run', 'put name=run id=0 data=hello', 'dptr name=run id=0',
        'dump name=run');
    $api->same($made[0], { inst => 'set', num => 3, size => 40 },
        '[B8] a child creates a segment');
    $api->same($made[3], { align => 0 }, '[D3] its slots are aligned');
}

my @shm = SlotmemApi::shm_names($creator);
my @got = $api->run_in($sibling, 'attach name=run', 'get name=run id=0',
    'grab name=run', 'info name=run', 'put name=run id=1 data=back');
$api->same($got[0], { inst => 'set', num => 3, size => 40 },
    '[B8] a sibling attaches to it by name');
$api->same($got[1], { data => 'hello' }, '[B8] ... and reads its content');
$api->same($got[2], { id => 1 }, '[B8] ... and sees the slots in use');
$api->same($got[3], { status => undef, free => 1 }, '[B8] ... and its count');
@got = $api->run_in($creator, 'get name=run id=1', 'info name=run');
$api->same($got[0], { data => 'back' }, '[B8] the creator reads the answer');
$api->same($got[1], { status => undef, free => 1 }, '[B8] ... and its count');

# C4's rules between siblings.
@got = $api->run_in($third, "create name=run $shape", 'get name=run id=1');
$api->same($got[0], { inst => 'set', num => 3, size => 40 },
    '[B8][C4] create of a name that a sibling created attaches');
$api->same($got[1], { data => 'back' }, '[B8][C4] ... with its contents');
$s->log_mark;
@got = $api->run_in($fourth, 'create name=run size=40 num=77 type=pregrab');
$api->same($got[0], { inst => 'set', num => 3 },
    '[B8][C4] more slots than the sibling created: those that exist');
is($s->log_has('SLOTMEM-05', 'warn', 'run', 3, 77), 1,
    '[B8][C4] ... and one warning with both');
$s->log_mark;
@got = $api->run_in($fourth, 'create name=run as=bad size=39 num=3');
$api->same($got[0], { status => 'APR_EINVAL', inst => 'null' },
    '[B8][C4] another item_size');
is($s->log_only('SLOTMEM-04', 'error', 'run'), 1,
    '[B8][C4] ... one error line');

# An inherited name needs no other shared memory.
@got = $api->run_in($sibling, 'create name=configured as=c size=8 num=2',
    'put as=c id=0 data=all');
$api->same($got[0], { inst => 'set', num => 2 },
    '[B8][C4] create of an inherited name');
$api->same(scalar $api->run_in($third, 'get name=configured id=0'),
    { data => 'all' }, '[B8][C4] ... is the inherited segment');

# A child without free descriptors cannot attach, and reports that: it replaces
# nothing.
$api->run_in($creator, 'create name=scarce size=16 num=2',
    'put name=scarce id=0 data=first');
$s->log_mark;
@got = $api->run_in($fourth, 'create name=scarce size=16 num=2 emfile=1');
$api->same($got[0], { status => 'EMFILE', inst => 'null' },
    '[B8] create without descriptors, of a name that a sibling has');
is($s->log_only('SLOTMEM-03', 'error', 'scarce'), 1, '[B8] ... one error line');
@got = $api->run_in($fourth, 'create name=scarce size=16 num=2',
    'get name=scarce id=0');
$api->same($got[1], { data => 'first' }, '[B8] ... it has replaced nothing');
$api->same(scalar $api->run_in($third, 'attach name=scarce',
    'get name=scarce id=0'), { data => 'first' }, '[B8] ... for others either');

# The files of the names: each is readable by its user only, and has its own
# proof, which does not work for another name.
sub files_of {
    my $before = shift;
    my %old = map { $_ => 1 } @$before;
    return grep { !$old{$_} } glob '/dev/shm/slotmem-shm-*/*';
}

sub header {
    my ($file, $offset, $bytes) = @_;
    open my $io, '+<:raw', $file or die "$file: $!";
    if (defined $bytes) {
        sysseek $io, $offset, 0;
        syswrite $io, $bytes;
    }
    sysseek $io, $offset, 0;
    sysread $io, my $found, 16;
    close $io;
    return $found;
}
use constant { PROOF => 24, STARTED => 40 };
my @there = files_of([]);
$api->run_in($creator, 'create name=one size=16 num=2',
    'put name=one id=0 data=one');
my ($one) = files_of(\@there);
push @there, $one;
$api->run_in($creator, 'create name=two size=16 num=2',
    'put name=two id=0 data=two');
my ($two) = files_of(\@there);
is((stat $one)[2] & 07777, 0600, '[B8] only its user can read a file');
my $shm_dir = dirname($one // '');
is((stat $shm_dir)[2] & 07777, 0700, '[B8] ... and see its name');
is(dirname($two), $shm_dir, '[B8] all files are in one directory');
my $proof = header($two, PROOF);
isnt(header($one, PROOF), $proof, '[B8] two names have two proofs');
header($two, PROOF, header($one, PROOF));
@got = $api->run_in($sibling, 'attach name=two');
isnt($got[0]{status}, 'APR_SUCCESS',
    '[B8] the proof of one name does not work for another');
@got = $api->run_in($sibling, 'create name=two size=16 num=2');
isnt($got[0]{status}, 'APR_SUCCESS',
    '[B8] ... and a segment of a live child is not replaced');
header($two, PROOF, $proof);
$api->same(scalar $api->run_in($sibling, 'attach name=two', 'get name=two id=0'),
    { data => 'two' }, '[B8] ... it still exists');

# The pid of a creator is reused: the other process started at another time.
my $started = unpack 'Q', header($one, STARTED);
cmp_ok($started, '>', 0, '[B8] a segment has the start time of its creator');
header($one, STARTED, pack 'Q', $started - 1);
@got = $api->run_in($sibling, 'create name=one size=24 num=1', 'dump name=one');
$api->same($got[0], { inst => 'set', size => 24 },
    '[B8] a process with the pid of the creator is not the creator');
$api->same($got[1], { zero => 1 }, '[B8] ... its segment is replaced');

# A child is stopped in the middle of filling a segment. Its siblings do not
# notice; if one of them creates the same name, the stopped child finds that
# segment when it continues.
sub is_stopped {
    my $pid = shift;
    return SlotmemServer::slurp("/proc/$pid/stat") =~ /\) T/;
}

sub drafts {
    return grep {/\.\d+$/} glob "$shm_dir/*";
}
for my $case (
    ['size=16 num=2', { num => 3, inst => 'set' },
        '[B8][C4] ... it gets theirs'],
    ['size=24 num=2', { status => 'APR_EINVAL', inst => 'null' },
        '[B8][C4] ... under the rules for a segment that exists'])
{
    my ($its, $want, $text) = @$case;
    my $name = "stuck$its" =~ tr/a-z0-9//cdr;
    $disk->set(fill => "$third " . SIGSTOP);
    my ($request) = $api->start_in($third, "create name=$name $its");
    $s->wait_until('a child to stop', sub { is_stopped($third) });
    my $begun = time;
    @got = $api->run('attach name=two', "create name=un$name size=16 num=2",
        "create name=$name size=16 num=3", "put name=$name id=0 data=theirs");
    my $took = time - $begun;
    is(join(' ', map { $_->{status} } @got), join(' ', ('APR_SUCCESS') x 4),
        '[B8] a child that is stopped while it fills a segment holds no lock');
    cmp_ok($took, '<', 1, '[B8] ... and delays nobody');
    is(scalar(drafts()), 1, '[B8] ... its file is a draft');
    kill 'CONT', $third;
    my ($answers) = $api->finish($request);
    $api->same($answers->[0], $want, $text);
    is(scalar(drafts()), 0, '[B8] ... and its own file is gone');
}
$api->same(scalar $api->run_in($third, 'get name=stucksize16num2 id=0'),
    { data => 'theirs' }, '[B8] ... with its content');

# A child that is only slow delays those who create the same name, for 2 seconds
# at most: the memory might not suffice for all. It delays nobody else.
$disk->set(slow => $third);
my ($slowly) = $api->start_in($third, 'create name=slowly size=16 num=2',
    'get name=slowly id=0');
$s->wait_until('a draft', sub { drafts() });
my $from = time;
@got = $api->run_in($fourth, 'create name=slowly size=16 num=2',
    'put name=slowly id=0 data=fast');
$api->same($got[0], { inst => 'set' },
    '[B8] a slow child does not delay the same name for long');
cmp_ok(time - $from, '>', 1.9, '[B8] ... but for a while');
cmp_ok(time - $from, '<', 3, '[B8] ... of 2 seconds');
$from = time;
$api->run_in($fourth, 'create name=quickly size=16 num=2', 'attach name=two');
cmp_ok(time - $from, '<', 1, '[B8] ... and it does not delay other names');
$disk->well;
my ($slow_answers) = $api->finish($slowly);
$api->same($slow_answers->[1], { data => 'fast' },
    '[B8] ... and finds what was created meanwhile');
is(scalar(drafts()), 0, '[B8] ... and its own file is gone');

# Several children create the same segment at once: only one fills it.
$disk->set(slow => $third);
my ($first) = $api->start_in($third, 'create name=once size=16 num=8',
    'put name=once id=0 data=first');
$s->wait_until('a draft', sub { drafts() });
my @others = map {
    $api->start_in($_, 'create name=once size=16 num=8', 'grab name=once')
} $creator, $sibling, $fourth;
sleep 0.5;
is(scalar(drafts()), 1, '[B8] of several that create a segment one fills it');
$disk->well;
my @at_once = $api->finish($first, @others);
is(join(' ', map { $_->[0]{status} } @at_once),
    join(' ', ('APR_SUCCESS') x 4), '[B8] ... and all get it');
my %ids = map { ($_->[1]{id} // '') => 1 } @at_once[1 .. 3];
is(scalar(keys %ids), 3, '[B8] ... the same one');
is(scalar(drafts()), 0, '[B8] ... without a file that is left');

# A child that is stopped while it attaches a segment does not delay others.
$disk->set(fill => "$third " . SIGSTOP);
my ($attaching) = $api->start_in($third, 'attach name=quickly');
$s->wait_until('a child to stop', sub { is_stopped($third) });
$from = time;
$api->run('create name=further size=16 num=2', 'attach name=quickly');
cmp_ok(time - $from, '<', 1, '[B8] nor does one that is stopped in attach');
kill 'CONT', $third;
my ($attached) = $api->finish($attaching);
$api->same($attached->[0], { inst => 'set' }, '[B8] ... which works then');

# A child is stopped while it holds the lock of run-time names.
$disk->set(rename => "$third " . SIGSTOP);
my ($request) = $api->start_in($third, 'create name=stuck size=16 num=2');
$s->wait_until('a child to stop', sub { is_stopped($third) });
for my $call ('create name=free size=16 num=2', 'create name=two size=16 num=2',
    'attach name=two') {
    $s->log_mark;
    my $begun = time;
    @got = $api->run($call);
    my $took = time - $begun;
    is($got[0]{status}, 'APR_TIMEUP', "[B8] $call: an error");
    cmp_ok($took, '>', 1.9, '[B8] ... after it has waited');
    cmp_ok($took, '<', 3, '[B8] ... for 2 seconds');
    is($s->log_has('SLOTMEM-52', 'error'), $call =~ /^create/ ? 1 : 0,
        '[B8] ... create logs it, attach does not');
}
$api->check('create name=configured as=c size=8 num=2', { num => 2 },
    '[B8] an inherited name needs no lock');
$api->check('create name=none as=anon size=8 num=2', { num => 2 },
    '[B8] neither does anonymous memory');
kill 'CONT', $third;
$api->finish($request);
@got = $api->run_in($sibling, 'create name=stuck size=16 num=2');
$api->same($got[0], { inst => 'set' },
    '[B8] it works once the child continues');

# A creator was killed: the name goes to the next process that creates it, after
# the parent has noticed the death. The sibling had not attached to it.
$api->run_in($creator, 'create name=orphan size=16 num=2',
    'put name=orphan id=0 data=old');
kill 'KILL', $creator;
$s->wait_until('end of the creator', sub { !kill 0, $creator });
@got = $api->run_in($sibling, 'create name=orphan size=24 num=5',
    'dump name=orphan', 'info name=orphan', 'put name=orphan id=4 data=new');
$api->same($got[0], { inst => 'set', num => 5, size => 24 },
    '[B8] create of a name whose creator was killed');
$api->same($got[1], { zero => 1 }, '[B8] ... gives new memory');
$api->same($got[2], { status => undef, free => 5 }, '[B8] ... all free');
@got = $api->run_in($third, 'attach name=orphan', 'get name=orphan id=4');
$api->same($got[1], { data => 'new' }, '[B8] ... and siblings attach to that');
$api->same(scalar $api->run_in($third, 'get name=run id=0'),
    { data => 'hello' }, '[B8] an attached segment stays mapped');
@got = $api->run_in($fourth, 'create name=run size=8 num=1', 'dump name=run');
$api->same($got[1], { zero => 1 },
    '[B8] a process that had attached to it creates the name again');

# The first create of any name removes its other segments.
ok(!-e $two, '[B8] other objects of the killed creator are gone');
push @shm, SlotmemApi::shm_names($sibling, $third, $fourth);
cmp_ok(scalar(grep { m{^/dev/shm/} } SlotmemApi::shm_left(@shm)), '>', 0,
    'the segments have names in /dev/shm');

# A creator exits normally, because it has served its number of connections; the
# others are kept busy meanwhile. One sibling has attached to the segment, and
# another one creates the name again.
sub end_child {
    my ($pid, $what) = @_;
    my @others = grep { $_ != $pid } $s->children;
    kill 'STOP', @others;
    my $client = SlotmemApi->new($s);
    $client->{agent}->timeout(1);
    $s->wait_until("end of $what", sub {
        $client->try('who');
        return !kill 0, $pid;
    });
    kill 'CONT', @others;
    return;
}
$s->append_config("MaxConnectionsPerChild 300\n");
$s->graceful;
($creator, $sibling, $third, $fourth) = $s->children;
$api->run_in($creator, 'create name=tidy size=16 num=2',
    'put name=tidy id=0 data=dead');
$api->same(scalar $api->run_in($sibling, 'attach name=tidy',
    'get name=tidy id=0'), { data => 'dead' }, '[B8] a sibling attaches');
push @shm, SlotmemApi::shm_names($creator, $sibling);
end_child($creator, 'the creator');
@got = $api->run_in($third, 'create name=tidy size=16 num=3',
    'dump name=tidy', 'put name=tidy id=0 data=live');
$api->same($got[0], { inst => 'set', num => 3 },
    '[B8] create of a name whose creator has exited');
$api->same($got[1], { zero => 1 }, '[B8] ... gives new memory');
@got = $api->run_in($sibling, 'get name=tidy id=0', 'attach name=tidy as=again',
    'get as=again id=0', 'create name=tidy as=made size=16 num=3',
    'get as=made id=0', 'get name=tidy id=0');
$api->same($got[0], { data => 'dead' },
    '[B8] a process that had attached to the old one still has it');
$api->same($got[1], { num => 3, inst => 'set', same => 0 },
    '[B8] ... but attach returns the new one');
$api->same($got[2], { data => 'live' }, '[B8] ... with its content');
$api->same($got[3], { num => 3, inst => 'set' }, '[B8] ... and so does create');
$api->same($got[4], { data => 'live' }, '[B8] ... which is the same');
$api->same($got[5], { data => 'dead' }, '[B8] ... the old one stays mapped');
push @shm, SlotmemApi::shm_names($third);
end_child($sibling, 'the sibling');
@got = $api->run_in($fourth, 'attach name=tidy', 'get name=tidy id=0');
$api->same($got[1], { data => 'live' },
    '[B8] the exit of one that had both does not remove the name');
$s->config($s->config =~ s/MaxConn.*\n//r);
$s->graceful;

# A creator that exits slowly: from the first moment on its names no longer
# refer to its segments. Its cleanups can still use these.
{
    my ($at, $gate) = map { $s->rundir . "/$_" } qw(exit-at exit-gate);
    my $config = $s->config;
    $s->config($config =~ s/MaxConn.*\n//r . "MaxConnectionsPerChild 300\n"
        . "SlotmemTest child_exit wait at=$at file=$gate max=20\n"
        . "SlotmemTest child_exit get name=slow id=0\n");
    $s->graceful;
    my ($maker, $other, @more) = $s->children;
    $api->run_in($maker, 'create name=slow size=16 num=2',
        'put name=slow id=0 data=dead');
    kill 'STOP', $other, @more;
    my $client = SlotmemApi->new($s);
    $client->{agent}->timeout(1);
    $s->wait_until('the creator ends', sub {
        $client->try('who') if !-e $at;
        return -e $at;
    });
    kill 'CONT', $other, @more;
    @got = $api->run_in($other, 'attach name=slow',
        'create name=slow size=24 num=1', 'dump name=slow');
    is($got[0]{status}, 'APR_ENOENT',
        '[B8] attach does not return the segment of an exiting creator');
    $api->same($got[1], { inst => 'set', size => 24 },
        '[B8] ... and create returns a new one');
    push @shm, SlotmemApi::shm_names($maker, $other);
    $s->log_mark;
    open my $open, '>', $gate or die "$gate: $!";
    close $open;
    $s->wait_until('its end', sub { !kill 0, $maker });
    like($s->log_since, qr/op=get.*data=dead/,
        '[B8] ... the cleanups of the creator still have the old one');
    $api->same(scalar $api->run_in($more[0], 'attach name=slow'),
        { size => 24 }, '[B8] ... and its exit keeps the new one');
    $s->config($config);
    $s->graceful;
}

# The next generation, while a child of the old one is still working. That child
# created "live".
my $at   = $s->rundir . '/at';
my $gate = $s->rundir . '/open';
my ($client) = $api->start([
    'create name=alive size=8 num=2',
    'create name=live size=8 num=2 type=persist', 'put name=live id=0 data=old',
    "wait at=$at file=$gate", 'get name=live id=0', 'grab name=live',
]);
$s->wait_until('the request', sub { -e $at });
my @old = $s->children;
$s->append_config(<<'EOT');
SlotmemTest post_config attach tag=parent name=live as=p
SlotmemTest post_config create tag=parentnew name=live size=8 num=2
SlotmemTest post_config dump tag=parentdump name=live
SlotmemTest child_init attach tag=childinit name=orphan as=x
EOT
$s->graceful(wait_old => 0);
my $answer = $api->result('parent');
isnt($answer->{status}, 'APR_SUCCESS',
    '[B8] the parent cannot attach to a child\'s segment');
is($answer->{inst}, 'untouched', '[B8] ... its pointer is untouched');
$api->same($api->result('parentnew'), { inst => 'set' },
    '[B8] the parent creates that name for itself');
$api->same($api->result('parentdump'), { zero => 1 }, '[B8] ... as new memory');
my @new = $api->run('create name=other size=8 num=1', 'attach name=alive',
    'create name=alive size=24 num=3', 'dump name=alive');
isnt($new[1]{status}, 'APR_SUCCESS',
    '[B1][B8] the new children do not see the segments of an old one');
$api->same($new[2], { inst => 'set', num => 3, size => 24 },
    '[B1][B8] ... and create their own');
$api->same($new[3], { zero => 1 }, '[B1][B8] ... as new memory');
isnt($api->result('childinit')->{status}, 'APR_SUCCESS',
    '[B1][B8] names of the old generation are unknown in the new one');
$api->run('put name=live id=1 data=new');
open my $out, '>', $gate or die "$gate: $!";
close $out;
my ($old) = $api->finish($client);
$api->same($old->[4], { data => 'old' },
    '[B3][B8] the old child still has its own');
$api->same($old->[5], { id => 1 }, '[B3][B8] ... and can use it');
$s->wait_until('end of old children', sub {
    !grep { $s->is_alive($_) } @old;
});

push @shm, SlotmemApi::shm_names($s->children);

# A consumer's cleanup at the exit of a child uses a run-time segment.
$s->config(<<'EOT2');
SlotmemTest child_exit info tag=atexit name=exit
SlotmemTest child_exit poke name=exit id=1 data=bye
SlotmemTest child_exit dump name=exit
EOT2
$s->graceful;
my ($maker, $user) = $s->children;
$api->run_in($maker, 'create name=exit size=16 num=2', 'put name=exit id=0'
        . ' data=hello');
$api->run_in($user, 'attach name=exit');
push @shm, SlotmemApi::shm_names($maker, $user);
$s->log_mark;
$s->graceful;
for my $pid ($maker, $user) {
    my ($line) = grep { /child_exit.*pid=$pid\b/ } split /\n/, $s->log_since;
    like($line // '', qr/data=hello[%0]*bye/,
        '[B5][B8] a cleanup of pchild still has the segment');
}
unlike($s->log_since, qr/exit signal/, '[B5][B8] ... and does not crash');

# Mutex posixsem: a mutex that a killed process held stays locked forever. The
# directive does not affect the module: a creator is killed inside create, when
# it first writes to the file, when it fills it, and when it has the lock.
$s->stop;
$s->config("Mutex posixsem default\n");
$disk->start;
my $quick = SlotmemApi->new($s);
$quick->{agent}->timeout(10);
for my $when (qw(write fill rename)) {
    my ($victim) = $s->children;
    $disk->set($when => "$victim " . SIGKILL) if $when ne 'write';
    my ($killed) = $api->start_in($victim, "create name=$when size=16 num=2"
            . ($when eq 'write' ? ' die=1' : ''));
    $s->wait_until("its end in $when", sub { !-e "/proc/$victim" });
    $api->finish($killed);
    my $begun = time;
    for my $name ("lives$when", $when) {
        my ($made) = $quick->try("create name=$name size=16 num=2",
            "dump name=$name");
        is($made->{status} // 'no answer', 'APR_SUCCESS',
            "[B8] a child is killed in create ($when): a sibling creates "
                . $name);
    }
    cmp_ok(time - $begun, '<', 1, '[B8] ... without delay');
    is(scalar(drafts()), 0, '[B8] ... and what it left is gone')
        if $when ne 'write';
}
push @shm, SlotmemApi::shm_names($s->children);

# A creator is killed just before a hard restart. The next generation is not
# told of the death, but checks once anyway.
my @alive = $s->children;
@there = files_of([]);
$api->run_in($alive[0], 'create name=before size=16 num=2');
my ($before) = files_of(\@there);
kill 'KILL', $alive[0];
$s->wait_until('its end', sub { !kill 0, $alive[0] });
$s->restart;
push @shm, $before;
ok(-e $before, 'the object of a killed creator survives a restart');
$api->run('create name=after size=16 num=2');
ok(!-e $before, '[B8] ... until the first create of any name after that');
push @shm, SlotmemApi::shm_names($s->children);

# A creator is killed, and nobody creates anything after that.
@alive = $s->children;
@there = files_of([]);
$api->run_in($alive[0], 'create name=last size=16 num=2');
my ($last) = files_of(\@there);
kill 'KILL', $alive[0];
$s->wait_until('its end', sub { !kill 0, $alive[0] });
push @shm, $last;
ok(-e $last, 'a killed creator leaves its object');

is(join(' ', glob $s->rundir . '/*persist*'), '',
    '[B8] a child\'s segment is not persisted');
$s->stop;
is(join(' ', grep {-e} $last, dirname($last)), '',
    '[B8] ... which goes when the server stops');

# The same, and the server stops because it cannot restart.
for my $failure ("Include missing.conf\n", "NoSuchDirective on\n",
    "SlotmemTest post_config-last fail\n")
{
    $s->start;
    my ($lost) = $s->children;
    @there = files_of([]);
    $api->run_in($lost, 'create name=last size=16 num=2');
    ($last) = files_of(\@there);
    kill 'KILL', $lost;
    $s->wait_until('its end', sub { !kill 0, $lost });
    my $whole = $s->config;
    $s->config($failure);
    ok(defined $s->restart_fails('HUP'), "a restart fails: $failure");
    is(join(' ', grep {-e} $last, dirname($last)), '',
        '[B8] ... or when it cannot restart');
    $s->config($whole);
}
is(join(' ', glob $s->rundir . '/*persist*'), '', '[B8] ... nor at stop');
is(join(' ', SlotmemApi::shm_left(@shm, map { dirname($_) } grep {m{/}} @shm)),
    '', '[B8] nothing is left, in /dev/shm or elsewhere');
unlike($s->log, qr/exit signal (?!Killed|.*file size)/i,
    'no child has crashed');

done_testing;
