# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Names: anonymous, relative and absolute ones, and one name twice
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
    '[C1] "none" once more, of another shape');
for my $tag (qw(attachnull attachempty attachnone)) {
    my $answer = $api->same($api->result($tag),
        { status => undef, inst => 'untouched', num => 'untouched' },
        "[C1][D2] $tag: what has no name cannot be attached");
    isnt($answer->{status}, 'APR_SUCCESS', '[C1] ... and the code says so');
}
my @names = qw(null empty none None);
$api->run(map { ("poke as=$_ id=0 data=$_") } @names);
is_deeply([map { $_->{data} } $api->run(map { "dptr as=$_ id=0" } @names)],
    \@names, '[C1] each is an instance of its own');

# [C1], in a child
my @child = $api->run(
    'create name=none as=a size=8 num=2', 'poke as=a id=0 data=mine',
    'create name=NONE as=b size=8 num=2', 'dptr as=b id=0',
    'attach name=none as=c',              'create as=d size=8 num=2',
);
$api->same($child[2], { inst => 'set' }, '[C1] another "none" in a child');
$api->same($child[3], { zero => 1 }, '[C1] ... is new memory');
isnt($child[4]{status}, 'APR_SUCCESS', '[C1] ... and cannot be attached');
is($child[4]{inst}, 'untouched', '[C1][D2] ... the pointer stays');
$api->same($child[5], { inst => 'set' }, '[C1] a null name in a child');

# [C4], in the configuration
for my $tag (qw(second type smaller larger)) {
    $api->same($api->result($tag), { same => 1, num => 4, size => 16 },
        "[C4] one name twice is one instance: $tag");
}
$api->check('get as=first id=3', { data => 'one' },
    '[C4] ... with its contents');
$api->same($api->result('beyond'), { status => 'APR_EINVAL' },
    '[C4] each call checks against the slots that exist');
$api->same($api->result('size'), { status => 'APR_EINVAL', inst => 'null' },
    '[C4][D1] one name with another item_size');

my @more = ('SLOTMEM-05', 'warn');
my @size = ('SLOTMEM-04', 'error');
is($s->log_only(@more), 1, '[C4] more slots than there are: one warning');
is($s->log_has(@more, 'twice', 4, 16, 713, 16), 1,
    '[C4] ... with the name and both geometries');
is($s->log_only(@size), 1, '[C4] another item_size: one error line');
is($s->log_has(@size, 'twice', 4, 16, 4, 8123), 1,
    '[C4] ... with the name and both geometries');

# [C4], in a child
$s->log_mark;
$api->check('create name=twice as=run size=16 num=99',
    { inst => 'set', num => 4 }, '[C4] more slots, asked for by a child');
is($s->log_has(@more, 'twice', 4, 16, 99, 16), 1, '[C4] ... one warning');
is($s->log_only(@more), 1, '[C4] ... and no other');
$s->log_mark;
$api->check('create name=twice as=run size=15 num=4',
    { status => 'APR_EINVAL', inst => 'null' },
    '[C4] another item_size, asked for by a child');
is($s->log_has(@size, 'twice', 4, 16, 4, 15), 1, '[C4] ... one error line');

# [C1] [C2] [C3], what is stored and where
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
    '[C3] an absolute name is stored beside itself');

sub slots {
    my $file = shift;
    open my $in, '<:raw', $file or return "$file: $!";
    local $/;
    return unpack 'x8 a16', <$in>;
}
is(slots($s->rundir . '/slotmem-shm-relative.shm.persist'),
    "relative" . "\0" x 8, '[C2] with its contents');
is(slots("$path.persist"), "\0" x 8 . 'absolute', '[C3] with its contents');

done_testing;
