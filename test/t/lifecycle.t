# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The effect of restarts, stops, kills and failed starts on segments and files
# (contract, B).

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use POSIX ();
use SlotmemApi;
use SlotmemServer;
use Test::More;

# An attach before any create; segments of three kinds; and the calls of
# children when they start.
my $base = <<'EOT';
SlotmemTest config attach tag=early name=plain as=x passes=both
SlotmemTest post_config create name=plain size=64 num=8 passes=both
SlotmemTest post_config create name=keep size=64 num=8 type=persist
SlotmemTest post_config create name=marks size=64 num=8 type=persist,pregrab
SlotmemTest child_init-first attach tag=child name=keep
SlotmemTest child_init-first create tag=childcreate name=plain size=64 num=8
SlotmemTest child_init-first create name=newborn size=16 num=2
EOT
my $s   = SlotmemServer->new(servers => 3, config => $base);
my $api = SlotmemApi->new($s);
my $at  = $s->root . '/at';
my $gate = $s->root . '/open';

sub touch {
    my $file = shift;
    open my $out, '>', $file or die "$file: $!";
    close $out;
    return;
}

# Every child uses the segments that the parent created before the fork.
sub children_work {
    my $what = shift;
    my @pids = $s->children;
    cmp_ok(scalar @pids, '>', 1, "several children live, $what");
    my (@seen, %attach);
    $api->run("put name=newborn id=0 len=16 data=$what");
    is_deeply([map { scalar $api->run_in($_, 'get name=newborn id=0')->{data} }
            @pids], [($what) x @pids],
        "[B4][B8] all creates in child_init give one segment, $what");
    for my $pid (@pids) {
        my @got = $api->run_in($pid, 'dptr name=plain id=1',
            'dptr name=keep id=0', 'results');
        push @seen, "$got[0]{data} $got[1]{data}";
        $attach{"@$_{qw(tag status same)}"}++
            for grep { ($_->{tag} // '') =~ /^child/ } @got;
    }
    is_deeply(\@seen, [("plain-$what keep-$what") x @pids],
        "[B4] each child uses the segments from before the fork, $what");
    is_deeply(\%attach, {
            'child APR_SUCCESS 1'       => scalar @pids,
            'childcreate APR_SUCCESS 1' => scalar @pids
        },
        "[B4] attach and create in child_init, at APR_HOOK_FIRST, $what");
    return;
}

# A request in flight, which has a pointer into a slot. It waits for the gate,
# for at most a few seconds.
sub fly {
    my $seconds = shift // 10;
    unlink $at, $gate;
    my ($client) = $api->start([
        'dptr name=keep id=2 keep=1',
        "wait at=$at file=$gate max=$seconds",
        'poke name=keep kept=1 data=late',
        'dptr name=keep id=2',
        'dptr name=plain id=1',
        'grab name=plain',
        'put name=plain id=5 data=x',
        'info name=plain',
        'get name=marks id=0',
    ]);
    $s->wait_until('the request', sub { -e $at });
    return $client;
}

sub lands {
    my ($client, $what, @old) = @_;
    touch($gate);
    my ($got) = $api->finish($client);
    is($got->[3]{data}, 'late', "[B3] the pointer of an old child, $what");
    is($got->[4]{data}, "plain-$what", "[B3] its slots, $what");
    is($got->[5]{id}, 1, "[B3] grab in it, $what");
    is($got->[7]{free}, 4, "[B3] ... the count continues, $what");
    is($got->[8]{data}, "m0-$what", "[B3] the persisted ones, $what");
    isnt($api->run('dptr name=keep id=2')->{data}, 'late',
        "[B1][B3] it does not write into the new generation, $what");
    $s->wait_until('end of old children',
        sub { !grep { $s->is_alive($_) } @old });
    return;
}

sub fill {
    my $what = shift;
    $api->run(
        "poke name=plain id=1 len=64 data=plain-$what",
        'grab name=plain',
        'fgrab name=plain id=2',
        "put name=keep id=0 len=64 data=keep-$what",
        'fgrab name=marks id=0',
        "put name=marks id=0 len=64 data=m0-$what",
        'fgrab name=marks id=5',
        'put name=marks id=5 data=m5',
    );
    return;
}

sub kept {
    my ($what, $how, $id) = @_;
    my @got = $api->run('dump name=plain', 'info name=plain',
        'dptr name=keep id=0', 'info name=keep', 'doall name=marks',
        'info name=marks', 'get name=marks id=0');
    $api->same($got[0], { zero => 1 }, "[B1] new memory is zero $how");
    is($got[1]{free}, 8, "[B1] ... with all slots free $how");
    is($got[2]{data}, "keep-$what", "[B2] PERSIST is restored $how");
    is($got[3]{free}, 7, "[B2] ... with its in-use flag $how");
    is($got[4]{visited}, '0,5', "[B2] PREGRAB: the slots in use $how");
    is($got[5]{free}, 6, "[B2] ... and their number $how");
    is($got[6]{data}, "m0-$what", "[B2] ... and the data $how");
    is($api->result('early')->{inst}, 'untouched',
        "[B1] the list of instances is empty when the pass starts $how");
    return;
}

sub no_crash {
    my $what = shift;
    unlike($s->log, qr/exit signal|core dump|AH0005[12]|Abort|overflow/,
        "no process has crashed: $what");
    return;
}

# Before pre_config: the test module is loaded after the module under test.
$s->start;
my $identity = $api->run('identity');
is($identity->{early}, 'APR_ENOSHMAVAIL', '[D1] create before pre_config');
is($identity->{early_inst}, 'null', '[D1] ... gives no instance');

# Each kind of restart, with several children and a request in flight. A hard
# restart and a stop may end the request, or the children wait for it.
fill('one');
children_work('one');
my @old    = $s->children;
my $client = fly();
$s->graceful(wait_old => 0);
kept('one', 'after a graceful restart');
fill('one');
lands($client, 'one', @old);
unlink $gate;

fill('two');
children_work('two');
$client = fly(1);
$s->restart;
$api->finish($client);
kept('two', 'after a hard restart');

fill('three');
children_work('three');
$client = fly(1);
$s->stop;
$api->finish($client);
no_crash('restarts and stop');
$s->start;
kept('three', 'after stop and start');

# kill -9 of the parent. If a child must be killed too, its run-time segments
# remain: this test removes them.
fill('four');
$client = fly();
my @left = SlotmemApi::shm_names($s->children);
$s->kill_parent;
touch($gate);
my ($orphan) = $api->finish($client);
is($orphan->[4]{data}, 'plain-four',
    '[B3] without a parent the children keep working');
$s->end_children;
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-three',
    '[B2][B7] after kill -9 the last store is restored');
fill('five');
children_work('five');

# A changed configuration: another shape, one name removed, one added.
my $other = <<'EOT';
SlotmemTest post_config create name=plain size=128 num=3
SlotmemTest post_config create name=keep size=64 num=8 type=persist
SlotmemTest post_config create name=added size=16 num=2 type=persist
SlotmemTest post_config attach tag=gone name=marks as=x
EOT
$client = fly();
$s->config($other);
$s->graceful(wait_old => 0);
$api->check('info name=plain', { status => undef, num => 3, size => 128 },
    '[B1] a changed configuration: another shape');
$api->check('dump name=plain', { zero => 1 }, '[B1] ... new memory');
$api->check('dptr name=keep id=0', { data => 'keep-five' },
    '[B2] ... the unchanged one is restored');
is($api->result('gone')->{inst}, 'untouched',
    '[B1] ... the removed one is unknown');
$api->run('put name=added id=1 data=added');
touch($gate);
my ($flown) = $api->finish($client);
is($flown->[4]{data}, 'plain-five', '[B3] ... old children keep the old shape');
$s->config($base);
$s->restart;
$api->check('get name=marks id=0', { data => 'm0-five' },
    '[B2] a name that comes back is restored');
$s->config($other);
$s->graceful;
$api->check('get name=added id=1', { data => 'added' },
    '[B2] ... and so is the other');
$s->stop;
no_crash('changed configuration');

# B5: the segments still exist in a consumer's cleanup.
$s->config($base . 'SlotmemTest cleanup poke name=keep id=7 data=cleanup');
$s->start;
for my $how (qw(graceful restart stop)) {
    $api->run('poke name=keep id=7 len=64 data=before');
    $s->$how;
    $s->start if $how eq 'stop';
    is($api->run('dptr name=keep id=7')->{data}, 'cleanup',
        "[B5] a write of a consumer's cleanup is stored: $how");
}
$s->stop;
no_crash('a cleanup');

# B6: create in the first pass, anywhere in post_config, and in child_init: in
# hooks before ours, after ours, and in all, with cleanups that use the
# segments.
my $both  = 'size=32 num=4 passes=both';
my %place = (
    config => "config create name=b6-config type=persist $both",
    first  => "post_config-first create name=b6-first type=persist $both",
    middle => "post_config create name=b6-middle type=persist $both",
    last   => "post_config-last create name=b6-last type=persist $both",
    anon   => "post_config-last create name=b6-anon $both",
    none   => "post_config-last create name=none $both",
    child  => 'child_init create name=b6-child size=32 num=4 tag=inchild',
);
my @cleanups = ('cleanup put name=b6-last id=1 data=bye',
    'cleanup grab name=b6-config', 'cleanup doall name=b6-anon');

sub create_at {
    my ($where, $places, @more) = @_;
    my @b6 = map { "b6-$_" } grep { !/none|anon|child/ } @$places;
    $s->config(join '', map { "SlotmemTest $_\n" } @place{@$places}, @more);
    $s->start;
    for my $how (qw(graceful restart stop)) {
        $api->run(map { ("put name=$_ id=0 len=32 data=$how") } @b6);
        $s->$how;
        $s->start if $how eq 'stop';
        is(join(' ',
                map { $_->{data} } $api->run(map { "dptr name=$_ id=0" } @b6)),
            join(' ', ($how) x @b6), "[B6] create $where; then $how");
        $api->same($api->result('inchild'), { inst => 'set', num => 4 },
            "[B6][B4] ... also in child_init, then $how");
    }
    return;
}
create_at('before our hook', [qw(config first middle child)]);
$s->stop;
create_at('after our hook', [qw(last child)]);
$s->stop;
create_at('anywhere', [qw(config first middle last anon none child)],
    @cleanups);
is($api->run('dptr name=b6-last id=1')->{data}, 'bye',
    '[B5][B6] a segment from after our hook lives until pconf is cleared');
$s->stop;
no_crash('create anywhere');

# The files on disk: name, inode, size, times and bytes.
sub snapshot {
    my $dir = $s->rundir;
    opendir my $in, $dir or die "$dir: $!";
    my @names = sort grep { !/^(?:\.|httpd\.pid)/ } readdir $in;
    return join "\n", map {
        my @stat = stat "$dir/$_";
        join ' ', $_, @stat[1, 2, 7, 9],
            md5_hex(SlotmemServer::slurp("$dir/$_"))
    } @names;
}

# B9 and B10.
$s->config($base);
$s->start;
fill('safe');
$s->stop;
my $before = snapshot();
like($before, qr/slotmem-shm-keep\.shm\.persist/, 'there are persisted files');
my ($code, $output) = $s->configtest;
is($code, 0, '[B9] httpd -t works') or diag($output);
is(snapshot(), $before, '[B10] -t changes no file');
($code, $output) = $s->run_args('-S');
is($code, 0, '[B9] httpd -S works') or diag($output);
is(snapshot(), $before, '[B10] -S changes no file');

# The new configuration also has segments that do not fit the files.
(my $changed = $base) =~ s/num=8/num=5/g;
for my $failure (
    'NoSuchDirective On',
    'SlotmemTest post_config-last fail',
    'SlotmemTest post_config-last fail passes=both',
    'SlotmemTest config fail',

    # Failures when the MPM starts: no pid file, and no scoreboard. For APR that
    # is an object that exceeds the limit, or a file in a missing directory.
    'PidFile "${ROOT}/missing/httpd.pid"',
    "ScoreBoardFile missing/board\n"
        . 'SlotmemTest post_config-last limit file=4096',
) {
    $s->config("$changed$failure\n");
    ok(defined $s->start_fails, "a start that fails: $failure");
    is(snapshot(), $before, "[B10] ... changes no file: $failure");
}
$s->config($base);
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-safe',
    '[B10] back to the old configuration: the old state is restored');

# A hard restart calls the hook twice, before the MPM and after post_config. The
# generation is enabled once, with as much shared memory as after a graceful
# restart, which calls it once.
sub shared_maps {
    return scalar grep { m{/dev/zero} } split /\n/,
        SlotmemServer::slurp('/proc/' . $s->parent . '/maps');
}
$s->graceful;
my $maps = shared_maps();
cmp_ok($maps, '>', 0, 'the parent has shared memory');
$s->graceful;
is(shared_maps(), $maps, '... the same after each graceful restart');
$s->restart;
is(shared_maps(), $maps, '[B10] a hard restart enables the generation once');

# A restart that fails: the old generation has reached the MPM and stores.
fill('restart');
$s->config("${changed}SlotmemTest post_config-last fail\n");
ok(defined $s->restart_fails('USR1'), 'a restart that fails');
$s->config($base);
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-restart',
    '[B2][B10] ... keeps the state of the generation before');
is($api->run('doall name=marks')->{visited}, '0,5',
    '[B10] ... and its in-use flags');
$s->stop;
no_crash('failed starts');
is(join(' ', glob $s->rundir . '/*.bad-*'), '', '[B10] no file was set aside');

# -X: one process, started as an ordinary user.
$s->start;
fill('several');
$s->stop;
$s->start('-X');
is($api->run('dptr name=keep id=0')->{data}, 'keep-several',
    '[B9] with -X the state is restored');
fill('single');
$s->stop;
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-single',
    '[B9] with -X, as the owner of the files, the state is stored');
$s->stop;

# B7: leftovers of an earlier run.
my $run = $s->rundir;
my %garbage;
for my $name (qw(plain keep marks)) {
    my $file = "$run/slotmem-shm-$name.shm";
    $garbage{$_} = 1 for $file, map { "$file.persist.$_" } qw(tmp lock XXXXXX);
    $garbage{"$run/slotmem-shm-${name}_0.shm"} = 1;
}
for my $file (sort keys %garbage) {
    open my $out, '>', $file or die "$file: $!";
    print {$out} 'left behind ' x 100;
    close $out;
}
open my $out, '>', "$run/httpd.pid" or die "$run: $!";
print {$out} "$$\n";
close $out;
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-single',
    '[B7] files of an earlier run do not matter');
fill('garbage');
$s->graceful;
is($api->run('dptr name=keep id=0')->{data}, 'keep-garbage',
    '[B7] ... and the next store works');
$s->stop;
my $tmp = "$run/slotmem-shm-keep.shm.persist.tmp";
unlink $tmp;
mkdir $tmp or die "$tmp: $!";
touch("$tmp/x");
unlink "$run/slotmem-shm-marks.shm.persist.tmp";
POSIX::mkfifo("$run/slotmem-shm-marks.shm.persist.tmp", 0600) or die $!;
$s->start;
is($api->run('dptr name=keep id=0')->{data}, 'keep-garbage',
    '[B7] a directory or a FIFO in place of a temporary file');
$s->stop;
unlink "$tmp/x";
rmdir $tmp;
no_crash('garbage');

# The distributed module, killed with all its children, leaves its segments.
SKIP: {
    my $dso = SlotmemServer->apxs_query('LIBEXECDIR') . '/mod_slotmem_shm.so';
    skip 'no distributed module', 2 if !-f $dso;
    my $ours = $s->{dso};
    $s->{dso} = $dso;
    $s->config($base);
    $s->start;
    push @left, SlotmemApi::shm_names($s->children);
    $s->kill_parent;
    $s->end_children;
    $s->{dso} = $ours;
    $s->config($base);
    $s->start;
    is($api->run('dptr name=keep id=0')->{data}, 'keep-garbage',
        '[B7] leftovers of the distributed module do not matter');
    $s->stop;
    no_crash('after the distributed module');

}
SlotmemApi::shm_remove(@left);

done_testing;
