# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Each function of the provider and each clause of the contract's section D,
# with three kinds of segment: anonymous, named and created by a child at run
# time, and created during configuration.

use strict;
use warnings;

use Apache::Test ();
use Config;
use SlotmemApi;
use Test::More;

my $api = SlotmemApi->new;
my $log = Apache::Test::vars('t_logs') . '/error_log';

my $EINVAL   = { status => 'APR_EINVAL' };
my $NOTFOUND = { status => 'APR_NOTFOUND' };
my $NOSHM    = { status => 'APR_ENOSHMAVAIL' };
my $OK       = {};

# Lines of the error log since the last call.
my $seen = 0;

sub new_lines {
    open my $in, '<', $log or die "$log: $!";
    seek $in, $seen, 0;
    my @lines = <$in>;
    $seen = tell $in;
    return @lines;
}

# One request: a segment, then commands on it, each with its expected answer and
# a name. All run in one process, as an anonymous segment exists in one only.
sub script {
    my ($create, $kind, @steps) = @_;
    my @commands = ($create);
    push @commands, map { "$_->[0] as=t" } @steps;
    my (undef, @answers) = $api->run(@commands);
    for my $step (@steps) {
        my ($command, $want, $name) = @$step;
        $api->same(shift @answers, $want, "$name ($kind)");
    }
    return;
}

for my $kind (qw(anonymous run-time configured)) {
    my $create = sub {
        my ($case, $shape) = @_;
        my $name =
              $kind eq 'anonymous' ? 'none'
            : $kind eq 'run-time'  ? "calls-$case-run"
            :                        "calls-$case";
        return "create as=t name=$name $shape";
    };

    script($create->('plain', 'size=8 num=4'), $kind,
        ['dump', { zero => 1 }, '[D1] new memory is zero'],
        ['info', { status => undef, num => 4, free => 4, size => 8 },
            '[D1][D9] all slots of a new segment are free'],

        ['dptr id=0', { offset => 0, align => 0 }, '[D3] the base is aligned'],
        ['dptr id=3', { offset => 24, zero => 1 },
            '[D3][D4] the last slot, which is free'],
        ['dptr id=4', { status => 'APR_EINVAL', mem => 'untouched' },
            '[D4] dptr of an id past the end'],
        ['dptr id=4294967295', $EINVAL, '[D4] dptr of the largest id'],
        ['info', { status => undef, free => 4 }, '[D4] dptr claims nothing'],

        ['grab', { id => 0 }, '[D6] grab returns the lowest free id'],
        ['grab', { id => 1 }, '[D6] ... then the next'],
        ['info', { status => undef, free => 2 },
            '[D9] num_free_slots counts what grab took'],
        ['fgrab id=3', $OK, '[D6] fgrab of a free slot'],
        ['fgrab id=3', $OK, '[D6] fgrab of a slot in use'],
        ['fgrab id=4', $EINVAL, '[D6] fgrab of an id past the end'],
        ['info', { status => undef, free => 1 }, '[D6][D9] it counts once'],
        ['grab', { id => 2 }, '[D6] the remaining one'],
        ['grab', { status => 'APR_EINVAL', id => 4 },
            '[D6] full: EINVAL, and the id is the number of slots'],
        ['info', { status => undef, num => 4, free => 0 },
            '[D9] no slot is free'],

        ['put id=1 data=stays', $OK, '[D5] put into a slot in use'],
        ['release id=1', $OK, '[D7] release of a slot in use'],
        ['release id=1', $NOTFOUND, '[D7] release of a free one'],
        ['release id=4', $EINVAL, '[D7] release of an id past the end'],
        ['dptr id=1', { data => 'stays', offset => 8 },
            '[D7] the data of a released slot stays'],
        ['release id=3', $OK, '[D7] release of the last slot'],
        ['info', { status => undef, free => 2 }, '[D7][D9] two are free'],
        ['grab', { id => 1 }, '[D6] the lowest of the two'],
        ['dptr id=1', { data => 'stays' }, '[D7] grab clears no data'],

        ['get id=3', { zero => 1, rest => 'untouched' },
            '[D5] get of a free slot'],
        ['info', { status => undef, free => 0 }, '[D5] ... claims it'],
        ['release id=3', $OK, '[D5] ... so it can be released'],
        ['put id=3 data=12345678', $OK, '[D5] put into a free slot'],
        ['info', { status => undef, free => 0 }, '[D5] ... claims it'],
        ['get id=3', { data => '12345678', rest => 'untouched' },
            '[D5] get of what was put'],
        ['get id=3 len=3', { data => '123', rest => 'untouched' },
            '[D5] get of the first bytes'],
        ['put id=3 data=ab', $OK, '[D5] put of two bytes'],
        ['get id=3', { data => 'ab345678' }, '[D5] ... keeps the others'],
        ['put id=4 data=x', $EINVAL, '[D5] put of an id past the end'],
        ['get id=4', { status => 'APR_EINVAL', rest => 'untouched' },
            '[D5] get of an id past the end'],
        ['dptr id=2', { zero => 1 }, '[D5] the neighbour is unchanged'],
        ['dptr id=3', { offset => 24 }, '[D3] addresses stay'],
    );

    script($create->('pregrab', 'size=8 num=4 type=pregrab'), $kind,
        ['dptr id=2', { offset => 16, zero => 1 },
            '[D4] PREGRAB: dptr of a free slot'],
        ['get id=2', { status => 'APR_NOTFOUND', rest => 'untouched' },
            '[D5] PREGRAB: get of a free slot'],
        ['put id=2 data=no', $NOTFOUND, '[D5] PREGRAB: put into a free slot'],
        ['put id=4 data=no', $EINVAL, '[D5] PREGRAB: put past the end'],
        ['get id=4', $EINVAL, '[D5] PREGRAB: get past the end'],
        ['dump', { zero => 1 }, '[D5] ... copied nothing'],
        ['info', { status => undef, free => 4 }, '[D5] ... marked nothing'],
        ['fgrab id=2', $OK, '[D6] PREGRAB: fgrab'],
        ['put id=2 data=yes', $OK, '[D5] PREGRAB: put into a slot in use'],
        ['get id=2', { data => 'yes' }, '[D5] PREGRAB: get of it'],
        ['grab', { id => 0 }, '[D6] PREGRAB: the lowest free id'],
        ['grab', { id => 1 }, '[D6] PREGRAB: ... then the next'],
        ['grab', { id => 3 }, '[D6] PREGRAB: ... past the one in use'],
        ['grab', { status => 'APR_EINVAL', id => 4 }, '[D6] PREGRAB: full'],
        ['info', { status => undef, free => 0 }, '[D9] PREGRAB: none is free'],
        ['release id=2', $OK, '[D7] PREGRAB: release'],
        ['release id=2', $NOTFOUND, '[D7] PREGRAB: release of a free slot'],
        ['get id=2', $NOTFOUND, '[D5] PREGRAB: get of a released slot'],
        ['dptr id=2', { data => 'yes' }, '[D7] PREGRAB: its data stays'],
        ['info', { status => undef, num => 4, free => 1 },
            '[D9] PREGRAB: one is free'],
    );

    script($create->('odd', 'size=7 num=5'), $kind,
        ['dptr id=0', { offset => 0, align => 0 }, '[D3] odd size: the base'],
        (map { ["dptr id=$_", { offset => 7 * $_ },
            "[D3] odd size: slot $_ follows without a gap"] } 1 .. 4),
        (map { ["put id=$_ fill=$_ len=7", $OK, '[D5] odd size: put'] }
            1 .. 4),
        ['dump', { data => "\0" x 7 . '1' x 7 . '2' x 7 . '3' x 7 . '4' x 7 },
            '[D3][D5] odd size: each put changed its own slot only'],
        ['info', { status => undef, num => 5, free => 1, size => 7 },
            '[D9] odd size: numbers'],
    );

    # 4 slots of 8 bytes: from slot 1 there are 24 bytes to the end.
    my $max = '18446744073709551615';
    script($create->('long', 'size=8 num=4'), $kind,
        ['put id=1 len=24 fill=x', $OK, '[D5] put up to the end of the area'],
        ['info', { status => undef, free => 3 }, '[D5] ... claims one slot'],
        ['dump', { data => "\0" x 8 . 'x' x 24 }, '[D5] ... copies it all'],
        ['get id=0 len=32', { data => "\0" x 8 . 'x' x 24,
                rest => 'untouched' }, '[D5] get of the whole array'],
        ['release id=0', $OK, '[D5] ... had claimed slot 0'],
        ['info', { status => undef, free => 3 }, '[D5] ... only that'],
        ['put id=2 len=0', $OK, '[D5] put of nothing'],
        ['info', { status => undef, free => 2 }, '[D5] ... claims the slot'],
        ['get id=3 len=0', $OK, '[D5] get of nothing'],
        ['info', { status => undef, free => 1 }, '[D5] ... claims the slot'],
    );
    script($create->('over', 'size=8 num=4'), $kind,
        ['put id=1 len=24 fill=x', $OK, '[D5] put up to the end once more'],
        ['put id=0 len=33 fill=y', $EINVAL, '[D5] put one byte too long'],
        ['put id=3 len=9 fill=y', $EINVAL, '[D5] the same in the last slot'],
        ['get id=2 len=17', { status => 'APR_EINVAL', rest => 'untouched' },
            '[D5] get one byte too long'],
        ['dump', { data => "\0" x 8 . 'x' x 24 }, '[D5] ... copied nothing'],
        ['info', { status => undef, free => 3 }, '[D5] ... marked nothing'],
    );
    script($create->('max', 'size=8 num=4'), $kind,
        ["get id=0 len=$max", { status => 'APR_EINVAL', rest => 'untouched' },
            '[D5] get of the largest length'],
        ["put id=3 len=$max", $EINVAL, '[D5] put of the largest length'],
        ["put id=1 len=18446744073709551609", $EINVAL,
            '[D5] a length whose sum with the offset wraps'],
        ['dump', { zero => 1 }, '[D5] ... copied nothing'],
        ['info', { status => undef, free => 4 }, '[D5] ... marked nothing'],
    );
    script($create->('longpre', 'size=8 num=4 type=pregrab'), $kind,
        ['fgrab id=1', $OK, '[D6] one slot in use'],
        ['put id=1 len=24 fill=x', $OK,
            '[D5] PREGRAB: put that extends over free slots'],
        ['put id=1 len=25 fill=y', $EINVAL, '[D5] PREGRAB: too long'],
        ['put id=0 len=8 fill=y', $NOTFOUND, '[D5] PREGRAB: slot not in use'],
        ['dump', { data => "\0" x 8 . 'x' x 24 }, '[D5] PREGRAB: contents'],
        ['info', { status => undef, free => 3 }, '[D5] PREGRAB: claims'],
    );

    script($create->('all', 'size=8 num=4'), $kind,
        ['doall', { visited => '0,1,2,3', pool => 'same' },
            '[D8] doall visits all slots, in order'],
        ['info', { status => undef, free => 4 }, '[D8] ... claims none'],
        ['doall nopool=1', { visited => '0,1,2,3', pool => 'same' },
            '[D8] a null pool is passed through'],
        ['doall stop=3 code=70012', { status => '70012', visited => '0,1,2' },
            '[D8] the first result that is not a success ends it'],
        ['doall stop=1 code=-1', { status => '-1', visited => '0' },
            '[D8] also a negative one, in the first slot'],
        ['doall stop=4 code=70012', { status => '70012' },
            '[D8] also in the last slot'],
        ['doall leave=2', { status => undef, left => 1 },
            '[D8] the callback leaves by longjmp'],
        ['doall', { visited => '0,1,2,3' }, '[D8] ... later calls work'],
        ['doall mark=m', { visits => 4 }, '[D8] the callback writes in place'],
        ['dump', { data => join("\0" x 7, ('m') x 4) },
            '[D8] ... into every slot'],
    );

    script($create->('allpre', 'size=8 num=4 type=pregrab'), $kind,
        ['doall', { visited => '' }, '[D8] PREGRAB: no slot is in use'],
        ['fgrab id=1', $OK, '[D6] PREGRAB: slot 1'],
        ['fgrab id=3', $OK, '[D6] PREGRAB: slot 3'],
        ['doall leave=1', { status => undef, left => 1 },
            '[D8] PREGRAB: the callback leaves by longjmp'],
        ['grab', { id => 0 }, '[D8] PREGRAB: ... later calls work'],
        ['release id=0', $OK, '[D8] PREGRAB: ... of each kind'],
        ['doall mark=p nopool=1', { visited => '1,3', pool => 'same' },
            '[D8] PREGRAB: doall visits the slots in use'],
        ['dump', { data => "\0" x 8 . 'p' . "\0" x 15 . 'p' },
            '[D8] PREGRAB: ... and touches nothing else'],
        ['doall stop=2 code=20014', { status => '20014', visited => '1,3' },
            '[D8] PREGRAB: a result is returned as it is'],
        ['release id=1', $OK, '[D7] PREGRAB: release'],
        ['doall', { visited => '3' }, '[D8] PREGRAB: one is left'],
    );

    # The slots in use are far apart: whole words of the map are empty.
    script($create->('many', 'size=64 num=1000 type=pregrab'), $kind,
        (map { ["fgrab id=$_", $OK, "[D6] many slots: fgrab of $_"] }
            0, 63, 64, 500, 999),
        ['doall', { visited => '0,63,64,500,999' },
            '[D8] many slots: ascending ids'],
        ['info', { status => undef, num => 1000, free => 995 },
            '[D9] many slots: free ones'],
        ['dptr id=999', { offset => 999 * 64, align => 0 },
            '[D3] many slots: the last'],
        ['grab', { id => 1 }, '[D6] many slots: the lowest free id'],
        ['release id=0', $OK, '[D7] many slots: release'],
        ['grab', { id => 0 }, '[D6] many slots: it is the lowest again'],
        ['fgrab id=1000', $EINVAL, '[D6] many slots: past the end'],
    );

    script($create->('nonum', 'size=8 num=0'), $kind,
        ['info', { status => undef, num => 0, free => 0, size => 8 },
            '[D1][D9] item_num 0 succeeds'],
        ['grab', { status => 'APR_EINVAL', id => 0 }, '[D6] no slot: grab'],
        ['dptr id=0', $EINVAL, '[D4] no slot: dptr'],
        ['get id=0 len=0', $EINVAL, '[D5] no slot: get'],
        ['put id=0 len=0', $EINVAL, '[D5] no slot: put'],
        ['fgrab id=0', $EINVAL, '[D6] no slot: fgrab'],
        ['release id=0', $EINVAL, '[D7] no slot: release'],
        ['doall', { visited => '' }, '[D8] no slot: doall'],
    );
    script($create->('nosize', 'size=0 num=3'), $kind,
        ['info', { status => undef, num => 3, free => 3, size => 0 },
            '[D1][D9] item_size 0 succeeds'],
        ['grab', { id => 0 }, '[D6] no bytes: grab'],
        ['dptr id=2', { offset => 0 }, '[D4] no bytes: dptr'],
        ['put id=1 len=0', $OK, '[D5] no bytes: put of none'],
        ['put id=2 len=1', $EINVAL, '[D5] no bytes: put of one'],
        ['info', { status => undef, free => 1 }, '[D9] no bytes: free slots'],
        ['doall', { visits => 3 }, '[D8] no bytes: doall'],
    );

    # Failures of create. A named segment would be created by this child.
    my $name = $kind eq 'anonymous' ? 'none' : "calls-fail-$kind";
    my $null = { status => 'APR_EINVAL', inst => 'null' };
    $api->check("create name=$name size=$max num=2", $null,
        "[D1] the product overflows ($kind)");
    my ($wraps, $huge) = $Config{ptrsize} == 8
        ? ('0x4000000000000001', '0x1000000000000')
        : ('0x40000001', '0x10000000');
    $api->check("create name=$name size=$wraps num=4", $null,
        "[D1] the product wraps to a small number ($kind)");
    $api->check("create name=$name size=$max num=1", $null,
        "[D1] the sum overflows ($kind)");
    new_lines();
    my $answer = $api->check("create name=$name size=$huge num=16",
        { status => undef, inst => 'null' },
        "[D1] no memory: no instance ($kind)");
    like($answer->{status}, qr/^(?:APR_(?:ENOMEM|ENOSPC|EINVAL)|27)$/,
        "[D1] ... and the system's code ($kind)");
    my @errors = grep { /\[slotmem_shm:(?:error|crit|alert|emerg)\]/ }
        new_lines();
    is(scalar @errors, 1, "[D1] ... and one error line ($kind)")
        or diag(@errors);
    my $named = $kind eq 'anonymous' ? qr/none|anonymous/i : qr/\Q$name\E/;
    like($errors[0] // '', $named,
        "[D1] ... that names the segment ($kind)");
    my $again = $api->check("create name=$name size=8 num=2",
        { inst => 'set', num => 2 },
        "[D1] the name can be used after a failure ($kind)");
}

# attach
$api->check('attach name=calls-plain',
    { inst => 'set', same => 1, size => 8, num => 4 },
    '[D2] attach of an inherited segment gives the same pointer');
$api->check('attach name=calls-odd as=other', { size => 7, num => 5 },
    '[D2] attach of another');
my @addresses = map { $_->{address} }
    ($api->run('attach name=calls-odd as=other', 'dptr as=other id=3',
        'dptr name=calls-odd id=3'))[1, 2];
is($addresses[0], $addresses[1], '[D2][D3] ... gives the same slots');
my @made = $api->run('create name=calls-here size=24 num=3',
    'attach name=calls-here');
$api->same($made[1], { same => 1, size => 24, num => 3 },
    '[D2] attach of a segment that this process created');
new_lines();
for my $name ('calls-nobody-made-this', '/no/such/path/calls', 'calls plain') {
    my $answer = $api->check(
        'attach as=free name=' . SlotmemApi::escape($name),
        { status => undef, inst => 'untouched', size => 'untouched',
            num => 'untouched' },
        "[D2] attach of an unknown name touches nothing: $name");
    isnt($answer->{status}, 'APR_SUCCESS', '[D2] ... and returns an error');
}
my @lines = grep { /slotmem/ && !/:(?:debug|trace\d)\]/ } new_lines();
is("@lines", '', '[D2] ... and logs nothing above debug');

# A callback calls back into the provider.
sub nested {
    my ($create, $doall) = @_;
    my (undef, @answers) = $api->run($create, "$doall as=t");
    my $last = pop @answers;
    return ($last, @answers);
}
my ($last, @inner) =
    nested('create as=t name=none size=8 num=3', 'doall each=grab,as=t');
is_deeply([map { $_->{id} } @inner], [0, 1, 2],
    '[D8] a callback may grab');
$api->same($last, { visits => 3 }, '[D8] ... and doall continues');
($last, @inner) = nested('create as=t name=none size=8 num=3',
    'doall each=put,as=t,id=2,data=in');
is_deeply([map { $_->{status} } @inner], [('APR_SUCCESS') x 3],
    '[D8] a callback may put');
($last, @inner) = nested('create as=t name=none size=8 num=3',
    'doall each=doall,as=t');
is_deeply([map { $_->{visits} } @inner], [3, 3, 3],
    '[D8] a callback may call doall');
($last, @inner) = nested('create as=t name=none size=8 num=2',
    'doall each=create,as=u,name=calls-inner,size=8,num=2');
is_deeply([map { $_->{status} } @inner], [('APR_SUCCESS') x 2],
    '[D8][D10] a callback may create');
($last, @inner) = nested('create as=t name=none size=8 num=2',
    'doall each=attach,as=u,name=calls-inner');
is_deeply([map { $_->{num} } @inner], [2, 2],
    '[D8][D10] a callback may attach');
my @pregrab = $api->run('create as=t name=none size=8 num=3 type=pregrab',
    'grab as=t', 'grab as=t', 'doall as=t each=release,id=1,as=t',
    'info as=t');
is($pregrab[-1]{free}, 2, '[D8] a callback may release');

# No instance.
my %what = (
    dptr => 'D4', get => 'D5', put => 'D5', grab => 'D6', fgrab => 'D6',
    release => 'D7', doall => 'D8'
);
for my $op (sort keys %what) {
    $api->check("$op null=1 id=0 len=0", $NOSHM,
        "[$what{$op}] $op without an instance");
}
$api->check('info null=1', { status => undef, num => 0, free => 0, size => 0 },
    '[D9] the numbers without an instance are 0');

$seen = 0;
unlike(join('', new_lines()), qr/exit signal/, 'no child has crashed');

done_testing;
