# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The operator's views of the segments: the section on mod_status's page, its
# machine-readable form, and JSON and metrics of the handler slotmem-status.

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
my $bytes = "a\x01\xc3\xa4\xe4";      # a control character, UTF-8, no UTF-8
my $segments = join '', map { "SlotmemTest post_config create $_\n" }
    'name=plain size=100 num=40',
    'name=' . SlotmemApi::escape($odd) . ' size=8 num=3 type=pregrab',
    'name=' . SlotmemApi::escape($bytes) . ' size=8 num=1',
    'name=kept size=16 num=4 type=persist,clearinuse',
    'name=damaged size=16 num=4 type=persist',
    'name=none size=8 num=1', 'name=none size=8 num=2';
# mod_status itself would show the requests, and with them the data that they
# put.
my $places = <<'EOT';
ExtendedStatus Off
SlotmemCheckpointInterval 1
<Location /slots.json>
    SetHandler slotmem-status
</Location>
EOT
my $s = SlotmemServer->new(
    log_level => 'slotmem_shm:info',
    config    => "$places${segments}SlotmemTest post_config hurry ms=20\n"
);
open my $out, '>', $s->rundir . '/slotmem-shm-damaged.shm.persist' or die $!;
print {$out} 'nothing of ours';
close $out or die $!;
$s->start;
my $api = SlotmemApi->new($s);

# ---- reading the four forms ----

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

# The metrics: "name{labels}" => value.
sub metrics {
    my $text = $s->get('/slots.json?metrics')->content;
    return { $text =~ /^([^#\s{]+(?:\{.*\})?) (\d+)$/mg };
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

# ---- their content ----

is(segment('kept')->{lastStore}, 'not yet', 'nothing was stored yet')
    if !segment('kept')->{lastStoreAge};
wait_for('a store shows', sub { segment('kept')->{lastStore} eq 'stored' });
cmp_ok(segment('kept')->{lastStoreAge}, '<', 60, '... with its age');
$api->check('grab name=kept', { id => 0 }, 'a slot is grabbed');
$api->check('put name=plain id=7 data=NONCE-1234', {}, 'a slot is put');

is_deeply(
    [map { $_->{name} } @{ json()->{segments} }],
    [('(anonymous)') x 2, "a\x01\xe4\x{fffd}", $odd, qw(damaged kept plain)],
    'all segments, sorted by name'
);
my $kept = segment('kept');
is($kept->{slotsUsed}, 1, 'the grabbed slot is in use');
is($kept->{slots}, 4, 'the number of slots');
is($kept->{slotSize}, 16, 'their size');
cmp_ok($kept->{memory}, '>=', 64, 'the memory');
is($kept->{type}, 'persist clearinuse', 'the type in words');
is($kept->{typeFlags}, 9, '... and as a number');
is($kept->{file}, $s->rundir . '/slotmem-shm-kept.shm.persist', 'the file');
is($kept->{restored}, 'no file', 'there was nothing to restore');
is($kept->{restoreResult}, 'none', '... as a code');
is($kept->{slotsRestored}, 0, '... as a number');
is($kept->{lastStoreResult}, 'stored', 'the last store as a code');
is(segment('damaged')->{restored}, 'refused', 'a refused file');
is(segment('damaged')->{restoreResult}, 'refused', '... as a code');
is(json()->{restoresRefused}, 1, '... which is counted');
is(json()->{filesOfOthers}, 0, 'no file is another server\'s');
is(segment('plain')->{type}, 'none', 'no type flag');
ok(!exists segment('plain')->{file}, 'no file');

# The other forms have the same figures.
my $json = json();
my $auto = auto();
my %all = (
    Generation => 'generation', SegmentsPersisted => 'segmentsPersisted',
    Orphans => 'orphans',
    RestoresRefused => 'restoresRefused', FilesOfOthers => 'filesOfOthers',
    StoresFailed => 'storesFailed', Slots => 'slots', SlotsUsed => 'slotsUsed',
    Memory => 'memory'
);
is($auto->{"ModSlotmem$_"}, $json->{ $all{$_} }, "?auto: ModSlotmem$_")
    for sort keys %all;
is($auto->{ModSlotmemSegments}, 7, '?auto: ModSlotmemSegments');
my %one = (
    Name => 'name', Slots => 'slots', SlotsUsed => 'slotsUsed',
    SlotSize => 'slotSize', Memory => 'memory', Type => 'type',
    File => 'file', Restored => 'restored'
);
for my $i (0, 1, 3 .. 6) {
    is($auto->{"ModSlotmemSegment[$i]$_"}, $json->{segments}[$i]{ $one{$_} },
        "?auto: $_ of segment $i")
        for sort keys %one;
}
like($auto->{'ModSlotmemSegment[5]LastStoreAge'}, qr/^\d+$/, '?auto: an age');
is($auto->{'ModSlotmemSegment[2]Name'}, $bytes =~ s/\x01/\\x01/r,
    '?auto: a control character is escaped');
# check_apachestatus.pl would take such a line for a part of the scoreboard.
my ($after) = $s->get('/server-status?auto')->content =~
    /^Scoreboard: \S*\n(.*)/ms;
unlike($after, qr/^[_SRWKDCLGI.]/mi,
    '?auto: no line after the scoreboard starts with one of its letters');

my $version = $json->{version};
like($version, qr/^\d+\.\d+\.\d+$/, '[A5] JSON names the version');
is($auto->{ModSlotmemVersion}, $version, '[A5] ?auto names it');
like(section(), qr/mod_slotmem_shm \Q$version\E\)</, '[A5] the page names it');
is($s->log_has('SLOTMEM-60', 'info', $version), 1,
    '[A5] one line of the log names it');

my $section = section();
like($section, qr/<p>7 segments in generation 0: 2 of 55 slots in use/,
    'the page: a summary first');
like($section, qr/<b>1 refused at the last start or restart<\/b>/,
    '... with the refused file');
my $rundir = $s->rundir;
like($section, qr/Files without a directory are in <code [^>]*>\Q$rundir\E\/</,
    '... and the directory of the files');
like($section, qr/<tr><td [^>]*>a&lt;b&gt;&amp;(?:"|&quot;)c\\</,
    '... names are escaped');
unlike($section, qr/a<b>/, '... everywhere');
my $next = qr/<\/td><td [^>]*>/;
like($section, qr/<td [^>]*>kept$next-$next<code>#####\.{15}<\/code> 1 of 4</,
    '... a bar');
like($section, qr/>slotmem-shm-kept\.shm\.persist</, '... the file');
like($section, qr/<td [^>]*>plain$next-$next<code>#\.{19}<\/code> 1 of 40</,
    '... that shows a single slot');
unlike(section('?notable'), qr/<t[dr]/, '... without a table on request');
like(section('?notable'), qr/<p>kept; -; <code>/, '... but with all segments');
unlike($s->get($_)->content, qr/NONCE/, "no slot's content on $_")
    for qw(/server-status /server-status?auto /slots.json /slots.json?metrics);

# ---- metrics ----

my $metrics = metrics();
my %of_kept = (
    slots => 4, slots_used => 1, slots_restored => 0, restores_refused => 0,
    stores_failed => 0, files_of_others => 0
);
is($metrics->{"slotmem_${_}{segment=\"kept\"}"}, $of_kept{$_}, "metrics: $_")
    for sort keys %of_kept;
is($metrics->{'slotmem_memory_bytes{segment="kept"}'}, $kept->{memory},
    'metrics: memory');
ok(exists $metrics->{'slotmem_last_store_age_seconds{segment="kept"}'},
    'metrics: the age of a store');
is(scalar(grep {/^slotmem_last_store_result\{segment="kept",result="\w+"\}$/}
        keys %$metrics), 1, 'metrics: its result');
is($metrics->{'slotmem_restores_refused{segment="damaged"}'}, 1,
    'metrics: a refused file');
is($metrics->{'slotmem_slots{segment="(anonymous)"}'}, 3,
    'metrics: anonymous segments are summed, since labels must differ');
is($metrics->{'slotmem_slots{segment="a<b>&\"c\\\\"}'}, 3,
    'metrics: a name with quote and backslash');
is($metrics->{"slotmem_slots{segment=\"a\\\\x01\xc3\xa4\\\\xe4\"}"}, 1,
    'metrics: a name with other bytes');
is(scalar(grep {/^slotmem_build_info\{version="\Q$version\E",built_for="2\./}
        keys %$metrics), 1, '[A5] metrics name the version');
is($metrics->{slotmem_generation}, 0, 'metrics: the generation');
my $text = $s->get('/slots.json?metrics')->content;
is(join(' ', grep { !/^# (?:HELP slotmem_\w+ .*|TYPE slotmem_\w+ gauge|EOF)$/ }
            $text =~ /^(#.*)$/mg), '', 'metrics: no other comment');
like($text, qr/\n# EOF\n\z/, 'metrics: the end, as OpenMetrics wants it');
unlike($text, qr/^# TYPE (\S+) .*^# TYPE \1 /ms, 'metrics: each family once');

# ---- requests ----

my $response = $s->get('/slots.json');
is($response->header('Content-Type'), 'application/json', 'JSON by its type');
my $plain = $s->get('/slots.json?metrics');
is($plain->header('Content-Type'),
    'text/plain; version=0.0.4; charset=utf-8', 'metrics by their type');
my $open = $s->agent->get($s->url('/slots.json?metrics'),
    Accept => 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5');
is($open->header('Content-Type'),
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
    '... as OpenMetrics, if the client asks for it');
my $refused = $s->post('/slots.json', {});
is($refused->code, 405, 'POST is refused');
like($refused->header('Allow'), qr/GET/, '... with the allowed methods');
is($s->agent->head($s->url('/slots.json'))->code, 200, 'HEAD is answered');

# ---- stores that fail, and restores ----

chmod 0555, $s->rundir or die $!;
$api->check('put name=kept id=0 data=changed', {}, 'a slot changes');
wait_for('a failed store shows',
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
is(segment('kept')->{restoreResult}, 'restored', '... as a code');
is(segment('kept')->{slotsRestored}, 4, '... as a number');
is(segment('damaged')->{restored}, '4 slots', '... of the file made since');
$s->stop;

# ---- names that would look alike in the metrics ----

my @alike = ("x\x01", 'x\\x01', 'x\\\\x01', "x\\\x01", "x\xe4", 'x\\xe4',
    '(anonymous)', '\\x28anonymous)');
my $num = 1;
$s->config($places . join '', map { "SlotmemTest post_config create $_\n" }
        'name=none size=8 num=100',
    map { 'name=' . SlotmemApi::escape($_) . ' size=8 num=' . $num++ } @alike);
$s->start;
my @series = $s->get('/slots.json?metrics')->content =~ /^(.*\}) \S+$/mg;
my %times;
is(join(' ', grep { $times{$_}++ } @series), '',
    'metrics: each series once, whatever the names are');
is(join(' ', sort { $a <=> $b } map { metrics()->{$_} }
            grep {/^slotmem_slots\{/} @series), '1 2 3 4 5 6 7 8 100',
    '... and no two segments are taken for one');
$s->stop;

# ---- many segments ----

$s->config($places . join '', map {
        "SlotmemTest post_config create name=s$_ size=8 num=2\n"
} 1 .. 1000);
$s->start;
is(scalar @{ json()->{segments} }, 1000, '1000 segments in JSON');
is(auto()->{ModSlotmemSegments}, 1000, '... in ?auto');
like(section(),
    qr/<p>1000 segments.*?<table.*?(?:<tr><td [^>]*>s\d+<.*?){1000}/s,
    '... on the page, after the summary');
$s->config("SlotmemCheckpointInterval 0\n");
$s->graceful;
like(section(), qr/<p>0 segments/, 'no segment');
unlike(section(), qr/<table/, '... and no table');
$s->stop;

# ---- a large, empty segment ----

# The resident pages of the shared mappings of a process, in KiB.
sub shared_memory {
    my $sum = 0;
    for my $pid ($s->processes) {
        my ($kb) = SlotmemServer::slurp("/proc/$pid/status")
            =~ /^RssShmem:\s+(\d+)/m;
        $sum += $kb // 0;
    }
    return $sum;
}
$s->config($places . join '', map { "SlotmemTest post_config create $_\n" }
        'name=huge size=0 num=4294967295', 'name=wide size=9 num=400000000');
$s->start;
my $before = shared_memory();
is(segment('huge')->{slotsUsed}, 0, '[D1] four billion slots are free');
like(section(), qr/huge/, '... on the page');
like($s->get('/server-status?auto')->content, qr/huge/, '... in ?auto');
cmp_ok(shared_memory() - $before, '<', 1024,
    '[D1] counting them takes no memory');
$api->run('fgrab name=huge id=4000000000', 'fgrab name=wide id=399999999');
is(segment('huge')->{slotsUsed}, 1, '[D9] one is in use');
is(segment('wide')->{slotsUsed}, 1, '[D9] one of the other');
$api->check('info name=huge', { status => undef, free => 4294967294 },
    '[D9] ... for consumers too');
cmp_ok(shared_memory() - $before, '<', 1024, '[D1] ... for little memory');
$s->stop;

done_testing;
