# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Names: anonymous, relative and absolute ones, and the same name twice
# (contract, C).

use strict;
use warnings;

use SlotmemApi;
use SlotmemServer;
use Test::More;

my $s       = SlotmemServer->new;
my $api     = SlotmemApi->new($s);
my $root    = $s->root;
my $path    = "$root/htdocs/absolute";
my $persist = 'type=persist';
$s->config(<<"EOT");
SlotmemTest post_config create tag=null as=null size=8 num=2 $persist
SlotmemTest post_config create tag=empty name= as=empty size=8 num=2 $persist
SlotmemTest post_config create tag=none name=none as=none size=8 num=2 $persist
SlotmemTest post_config create tag=None name=NoNe as=None size=8 num=2 $persist
SlotmemTest post_config create tag=again name=none as=again size=4 num=9
SlotmemTest post_config attach tag=attachnull as=x
SlotmemTest post_config attach tag=attachempty name= as=x
SlotmemTest post_config attach tag=attachnone name=none as=x
SlotmemTest post_config create name=relative size=8 num=2 $persist
SlotmemTest post_config put name=relative id=0 data=relative
SlotmemTest post_config create name=balancer-app_1.x size=8 num=2 $persist
SlotmemTest post_config create name=$path size=8 num=2 $persist
SlotmemTest post_config put name=$path id=1 data=absolute
SlotmemTest post_config create name=volatile size=8 num=2
SlotmemTest post_config create name=twice as=first size=16 num=4
SlotmemTest post_config put as=first id=3 data=one
SlotmemTest post_config create tag=second name=twice as=first size=16 num=4
SlotmemTest post_config create tag=type name=twice as=first \\
    size=16 num=4 type=pregrab
SlotmemTest post_config create tag=smaller name=twice as=first size=16 num=3
SlotmemTest post_config create tag=larger name=twice as=first size=16 num=713
SlotmemTest post_config put tag=beyond as=first id=4 data=x
SlotmemTest post_config create tag=size name=twice as=second size=8123 num=4
EOT
$s->log_mark;
$s->start;

# [C1], in the configuration
for my $tag (qw(null empty none None)) {
    $api->same($api->result($tag), { inst => 'set', num => 2, size => 8 },
        "[C1] an anonymous segment: $tag");
}
$api->same($api->result('again'), { inst => 'set', num => 9, size => 4 },
    '[C1] "none" again, with another shape');
for my $tag (qw(attachnull attachempty attachnone)) {
    my $answer = $api->same($api->result($tag),
        { status => undef, inst => 'untouched', num => 'untouched' },
        "[C1][D2] $tag: an anonymous segment cannot be attached");
    isnt($answer->{status}, 'APR_SUCCESS', '[C1] ... and the code says so');
}
my @names = qw(null empty none None);
$api->run(map { ("poke as=$_ id=0 data=$_") } @names);
is_deeply([map { $_->{data} } $api->run(map { "dptr as=$_ id=0" } @names)],
    \@names, '[C1] each is a separate instance');

# [C1], in a child
my @child = $api->run(
    'create name=none as=a size=8 num=2', 'poke as=a id=0 data=mine',
    'create name=NONE as=b size=8 num=2', 'dptr as=b id=0',
    'attach name=none as=c',              'create as=d size=8 num=2',
);
$api->same($child[2], { inst => 'set' }, '[C1] another "none" in a child');
$api->same($child[3], { zero => 1 }, '[C1] ... is new memory');
isnt($child[4]{status}, 'APR_SUCCESS', '[C1] ... and cannot be attached');
is($child[4]{inst}, 'untouched', '[C1][D2] ... the pointer is untouched');
$api->same($child[5], { inst => 'set' }, '[C1] a null name in a child');

# [C4], in the configuration
for my $tag (qw(second type smaller larger)) {
    $api->same($api->result($tag), { same => 1, num => 4, size => 16 },
        "[C4] the same name twice is one instance: $tag");
}
$api->check('get as=first id=3', { data => 'one' },
    '[C4] ... with its contents');
$api->same($api->result('beyond'), { status => 'APR_EINVAL' },
    '[C4] each call checks against the slots that exist');
$api->same($api->result('size'), { status => 'APR_EINVAL', inst => 'null' },
    '[C4][D1] the same name with another item_size');

my @more = ('SLOTMEM-05', 'warn');
my @size = ('SLOTMEM-04', 'error');
is($s->log_only(@more), 1, '[C4] more slots than exist: one warning');
is($s->log_has(@more, 'twice', 4, 16, 713, 16), 1,
    '[C4] ... with the name and both geometries');
is($s->log_only(@size), 1, '[C4] another item_size: one error line');
is($s->log_has(@size, 'twice', 4, 16, 4, 8123), 1,
    '[C4] ... with the name and both geometries');

# [C4], in a child
$s->log_mark;
$api->check('create name=twice as=run size=16 num=99',
    { inst => 'set', num => 4 }, '[C4] a child requests more slots');
is($s->log_has(@more, 'twice', 4, 16, 99, 16), 1, '[C4] ... one warning');
is($s->log_only(@more), 1, '[C4] ... and no other');
$s->log_mark;
$api->check('create name=twice as=run size=15 num=4',
    { status => 'APR_EINVAL', inst => 'null' },
    '[C4] a child requests another item_size');
is($s->log_has(@size, 'twice', 4, 16, 4, 15), 1, '[C4] ... one error line');

# [C4], repeatedly: each process logs a line once.
$s->log_mark;
for my $ask ('size=15 num=4', 'size=14 num=4', 'size=16 num=98',
    'size=16 num=97') {
    my ($pid) = map { $_->{pid} } $api->run("create name=twice as=run $ask");
    $api->run_in($pid, ("create name=twice as=run $ask") x 3);
}
my %said;
for my $line ($s->log_lines(@more), $s->log_lines(@size)) {
    $said{"$2 $1"}++ if $line =~ /\[pid (\d+).*(SLOTMEM-\d+)/;
}
is(join(' ', grep { $said{$_} != 1 } keys %said), '',
    '[C4] a process logs each line about a name once');
my ($pid) = $s->children;
$api->run_in($pid, 'create name=twice as=run size=15 num=4',
    'create name=twice as=run size=16 num=99');
$s->log_mark;
my @again = $api->run_in($pid, 'create name=twice as=run size=15 num=4',
    'create name=twice as=run size=16 num=99');
is($again[0]{status}, 'APR_EINVAL', '[C4] ... and continues to refuse');
is($again[1]{num}, 4, '[C4] ... or to return the existing slots');
is($s->log_has(@more) + $s->log_has(@size), 0, '[C4] ... in silence');

# [C1] [C2] [C3], which segments are stored, and where
$s->stop;

sub files {
    my $dir = shift;
    opendir my $in, $dir or die "$dir: $!";
    return join ' ', sort grep { /persist/ } readdir $in;
}
is(files($s->rundir),
    'slotmem-shm-balancer-app_1.x.shm.persist slotmem-shm-relative.shm.persist',
    '[C1][C2] stored: relative names of type PERSIST, nothing anonymous');
is(files("$root/htdocs"), 'absolute.persist',
    '[C3] an absolute name is stored at its own path');

sub slots {
    my $file = shift;
    open my $in, '<:raw', $file or return "$file: $!";
    local $/;
    return unpack 'x8 a16', <$in>;
}
is(slots($s->rundir . '/slotmem-shm-relative.shm.persist'),
    "relative" . "\0" x 8, '[C2] with its contents');
is(slots("$path.persist"), "\0" x 8 . 'absolute', '[C3] with its contents');

# [C5] One file is one instance; [C6] names that no file can have.
my $long  = 'l' x 218;      # fits with the longest suffix
my $odd   = "$root/htdocs//././/odd";
my $run   = $s->rundir;
$s->config(<<"EOT");
SlotmemTest post_config create tag=rel name=dots as=i size=8 num=2 $persist
SlotmemTest post_config create tag=abs name=$run/.//slotmem-shm-dots.shm \\
    as=i size=8 num=2 $persist
SlotmemTest post_config create tag=odd name=$odd as=o size=8 num=2 $persist
SlotmemTest post_config create tag=even name=$root/./htdocs/odd as=o \\
    size=8 num=2 $persist
SlotmemTest post_config attach tag=att name=$root/htdocs/././odd as=o
SlotmemTest post_config put as=o id=0 data=odd
SlotmemTest post_config create tag=other name=$root/htdocs/od.d/ as=o \\
    size=8 num=2
SlotmemTest post_config create tag=slash name=a/../b size=8 num=2 $persist
SlotmemTest post_config create tag=again name=a/../b size=8 num=2 $persist
SlotmemTest post_config create tag=long name=x$long size=8 num=2 $persist
SlotmemTest post_config create tag=fits name=$long size=8 num=2 $persist
SlotmemTest post_config create tag=ctl name=a%07b size=8 num=2 $persist
SlotmemTest post_config create tag=far name=$root/x$long${long}x size=8 num=2 $persist
SlotmemTest post_config create tag=volatile name=c/d size=8 num=2
EOT
$s->log_mark;
$s->start;
for my $tag (qw(rel odd slash long fits ctl far volatile)) {
    $api->same($api->result($tag), { inst => 'set', num => 2 },
        "[C6] it is created: $tag");
}
$api->same($api->result('abs'), { same => 1 },
    '[C5] an absolute name with // and /./ is the relative one');
$api->same($api->result('even'), { same => 1 },
    '[C5] two absolute names that differ in // and /./ are one');
$api->same($api->result('att'), { same => 1 }, '[C5] ... for attach as well');
$api->same($api->result('again'), { same => 1 },
    '[C6] the same name twice is one segment');
$api->same($api->result('other'), { same => 0 },
    '[C5] other names are other segments');
my @not = ('SLOTMEM-51', 'warn');
is($s->log_has(@not), 4, '[C6] one warning for each that is not stored')
    or diag($s->log_since);
is($s->log_has(@not, 'a/../b', qr/relative name/), 1,
    '[C6] ... why: a slash');
is($s->log_has(@not, "x$long", qr/too long/), 1, '[C6] ... why: its length');
is($s->log_has(@not, qr/control/), 1, '[C6] ... why: a control character');
$s->stop;
is($s->log_count(qr/slotmem_shm:(?:error|warn)/), 4,
    '[C6] ... and nothing else is logged, not at stop either')
    or diag($s->log_since);
is(slots("$root/htdocs/odd.persist"), 'odd' . "\0" x 13,
    '[C5] one file has the data of both');
is(scalar(my @dots = grep { /dots/ } split ' ', files($run)), 1,
    '[C5] ... and the relative name one');
ok(-e "$run/slotmem-shm-$long.shm.persist", '[C6] the longest name is stored');

done_testing;
