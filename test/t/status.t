# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# What an operator sees of the segments: the section on mod_status's page, its
# machine readable form, and the JSON of the handler slotmem-status.

use strict;
use warnings;

use JSON::PP ();
use SlotmemApi;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'the module has no slotmem-status'
    if !SlotmemServer->has_directive('slotmem-status');

my $odd = 'a<b>&"c\\';
my $segments = join '', map { "SlotmemTest post_config create $_\n" }
    'name=plain size=100 num=40',
    'name=' . SlotmemApi::escape($odd) . ' size=8 num=3 type=pregrab',
    'name=kept size=16 num=4 type=persist,clearinuse',
    'name=damaged size=16 num=4 type=persist',
    'name=none size=8 num=1';
# mod_status itself would show the requests, and with them what they put.
my $places = <<'EOT';
ExtendedStatus Off
SlotmemCheckpointInterval 1
<Location /slots.json>
    SetHandler slotmem-status
</Location>
EOT
my $s = SlotmemServer->new(log_level => 'slotmem_shm:info', config => $places . $segments
        . "SlotmemTest post_config hurry ms=20\n");
open my $out, '>', $s->rundir . '/slotmem-shm-damaged.shm.persist' or die $!;
print {$out} 'nothing of ours';
close $out or die $!;
$s->start;
my $api = SlotmemApi->new($s);

# ---- reading the three forms ----

sub section {
    my $query = shift // '';
    my $page = $s->get("/server-status$query")->content;
    return $page =~ m{(<h2>Shared memory slots.*)}s ? $1 : '';
}

sub auto {
    my $text = $s->get('/server-status?auto')->content;
    return { $text =~ /^(ModSlotmem\S+): (.*)$/mg };
}

sub json {
    return JSON::PP->new->utf8->decode($s->get('/slots.json')->content);
}

# The segment of a name, in JSON.
sub segment {
    my $name = shift;
    my ($found) = grep { $_->{name} eq $name } @{ json()->{segments} };
    return $found || {};
}

sub wait_for {
    my ($what, $holds) = @_;
    for (1 .. 200) {
        return pass($what) if $holds->();
        sleep 0.05;
    }
    return fail($what) || diag explain json();
}

# ---- what they say ----

is(segment('kept')->{lastStore}, 'not yet', 'nothing was stored yet')
    if !segment('kept')->{lastStoreAge};
wait_for('a store shows', sub { segment('kept')->{lastStore} eq 'stored' });
cmp_ok(segment('kept')->{lastStoreAge}, '<', 60, '... with its age');
$api->check('grab name=kept', { id => 0 }, 'a slot is grabbed');
$api->check('put name=plain id=7 data=NONCE-1234', {}, 'a slot is put');

is_deeply(
    [map { $_->{name} } @{ json()->{segments} }],
    ['(anonymous)', $odd, 'damaged', 'kept', 'plain'],
    'all segments, sorted by name'
);
my $kept = segment('kept');
is($kept->{slotsUsed}, 1, 'the grabbed slot is in use');
is($kept->{slots}, 4, 'the number of slots');
is($kept->{slotSize}, 16, 'their size');
cmp_ok($kept->{memory}, '>=', 64, 'the memory');
is($kept->{type}, 'persist clearinuse', 'the type in words');
is($kept->{file}, $s->rundir . '/slotmem-shm-kept.shm.persist', 'the file');
is($kept->{restored}, 'no file', 'there was nothing to restore');
is(segment('damaged')->{restored}, 'refused', 'a file that was refused');
is(segment('plain')->{type}, 'none', 'no type flag');
ok(!exists segment('plain')->{file}, 'no file');

# The other forms have the same figures.
my $json = json();
my $auto = auto();
my %all = (
    Generation => 'generation', SegmentsPersisted => 'segmentsPersisted',
    StoresFailed => 'storesFailed', Slots => 'slots', SlotsUsed => 'slotsUsed',
    Memory => 'memory'
);
is($auto->{"ModSlotmem$_"}, $json->{ $all{$_} }, "?auto: ModSlotmem$_")
    for sort keys %all;
is($auto->{ModSlotmemSegments}, 5, '?auto: ModSlotmemSegments');
my %one = (
    Name => 'name', Slots => 'slots', SlotsUsed => 'slotsUsed',
    SlotSize => 'slotSize', Memory => 'memory', Type => 'type',
    File => 'file', Restored => 'restored'
);
for my $i (0 .. 4) {
    is($auto->{"ModSlotmemSegment[$i]$_"}, $json->{segments}[$i]{ $one{$_} },
        "?auto: $_ of segment $i")
        for sort keys %one;
}
like($auto->{'ModSlotmemSegment[3]LastStoreAge'}, qr/^\d+$/, '?auto: an age');

my $version = $json->{version};
like($version, qr/^\d+\.\d+\.\d+$/, '[A5] JSON names the version');
is($auto->{ModSlotmemVersion}, $version, '[A5] ?auto names it');
like(section(), qr/mod_slotmem_shm \Q$version\E\)</, '[A5] the page names it');
is($s->log_has('SLOTMEM-60', 'info', $version), 1,
    '[A5] one line of the log names it');

my $section = section();
like($section, qr/<p>5 segments in generation 0: 2 of 52 slots in use/,
    'the page: a summary first');
like($section, qr/<td nowrap>a&lt;b&gt;&amp;(?:"|&quot;)c\\</,
    '... names are escaped');
unlike($section, qr/a<b>/, '... everywhere');
my $next = qr/<\/td><td nowrap>/;
like($section, qr/<td nowrap>kept$next<code>#####\.{15}<\/code> 1 of 4</,
    '... a bar');
like($section, qr/<td nowrap>plain$next<code>#\.{19}<\/code> 1 of 40</,
    '... that shows a single slot');
unlike(section('?notable'), qr/<t[dr]/, '... without a table on request');
like(section('?notable'), qr/<p>kept; <code>/, '... but with all segments');
unlike($s->get($_)->content, qr/NONCE/, "no slot's content on $_")
    for qw(/server-status /server-status?auto /slots.json);

# ---- requests ----

my $response = $s->get('/slots.json');
is($response->header('Content-Type'), 'application/json', 'JSON by its type');
my $refused = $s->post('/slots.json', {});
is($refused->code, 405, 'POST is refused');
like($refused->header('Allow'), qr/GET/, '... with what is allowed');
is($s->agent->head($s->url('/slots.json'))->code, 200, 'HEAD is answered');

# ---- stores that fail, and restores ----

chmod 0555, $s->rundir or die $!;
$api->check('put name=kept id=0 data=changed', {}, 'a slot changes');
wait_for('a store that fails shows',
    sub { segment('kept')->{lastStore} eq 'failed' });
is(json()->{storesFailed}, 1, '... and is counted');
like(section(), qr/<b>1 failed at their last store<\/b>/, '... on the page');
chmod 0755, $s->rundir or die $!;
wait_for('... until it succeeds',
    sub { segment('kept')->{lastStore} eq 'stored' });
is(json()->{storesFailed}, 0, '... and is no longer counted');
wait_for('a store with nothing to do shows',
    sub { segment('kept')->{lastStore} eq 'unchanged' });

$s->graceful;
is(json()->{generation}, 1, 'the generation after a graceful restart');
is(segment('kept')->{restored}, '4 slots', 'a restore shows');
is(segment('damaged')->{restored}, '4 slots', '... of the file made since');
$s->stop;

# ---- many ----

$s->config($places . join '', map {
        "SlotmemTest post_config create name=s$_ size=8 num=2\n"
} 1 .. 1000);
$s->start;
is(scalar @{ json()->{segments} }, 1000, '1000 segments in JSON');
is(auto()->{ModSlotmemSegments}, 1000, '... in ?auto');
like(section(),
    qr/<p>1000 segments.*?<table.*?(?:<tr><td nowrap>s\d+<.*?){1000}/s,
    '... on the page, after the summary');
$s->config("SlotmemCheckpointInterval 0\n");
$s->graceful;
like(section(), qr/<p>0 segments/, 'no segment');
unlike(section(), qr/<table/, '... and no table');
$s->stop;

done_testing;
