#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# State moves from the distributed module to ours and back: on a running server
# whose LoadModule line changes, across a kill, and in the bytes of the files.

use strict;
use warnings;

use SlotmemApi;
use SlotmemBalancer;
use Test::More;

my $ours   = SlotmemServer->default_dso;
my $theirs = SlotmemServer->apxs_query('exp_libexecdir')
    . '/mod_slotmem_shm.so';
plan skip_all => "the distributed module is not installed: $theirs"
    if !-f $theirs;
plan skip_all => 'the module under test is linked into httpd'
    if $ours eq 'static';
plan skip_all => "the module under test is the installed one: $theirs"
    if SlotmemServer::slurp($ours) eq SlotmemServer::slurp($theirs);
plan skip_all => "the installed module is not the distributed one: $theirs"
    if index(SlotmemServer::slurp($theirs), 'SlotmemPersistDir') >= 0;

use constant { SIZE => 16, NUM => 4 };

my $backends = SlotmemBackends->new(qw(a b c x y));
my $gate     = SlotmemGate->new;
my %url      = map { $_ => $backends->url($_) } qw(a b c x y);
my %name     = reverse %url;
my %port     = map { $_ => SlotmemServer->free_port } qw(one two);

sub host {
    my ($host, @balancers) = @_;
    return <<"EOT";
Listen 127.0.0.1:$port{$host}
<VirtualHost 127.0.0.1:$port{$host}>
BalancerPersist On
@balancers<Location /balancer-manager>
SetHandler balancer-manager
</Location>
</VirtualHost>
EOT
}

sub balancer {
    my ($name, $growth, @members) = @_;
    my $members = join '', map { "BalancerMember $url{$_}\n" } @members;
    return <<"EOT";
<Proxy balancer://$name>
${members}ProxySet growth=$growth
</Proxy>
ProxyPass /$name balancer://$name
EOT
}

# Segments at the level of the API, by name.
my %type = (
    none    => 'none',
    plain   => 'persist',
    pregrab => 'persist,pregrab',
    clear   => 'persist,clearinuse',
    claimed => 'persist,clearinuse',
    changed => 'persist,clearinuse'
);
my @lasting = qw(plain pregrab clear);
my $make    = join '', map {
    sprintf "SlotmemTest post_config create name=%s size=%d num=%d type=%s\n",
        $_, SIZE, NUM, $type{$_}
} sort keys %type;

my $server = SlotmemServer->new(
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)],
    dso     => $theirs
);
my %manager = map {
    $_ => SlotmemBalancer->new($server, url => "http://127.0.0.1:$port{$_}")
} keys %port;
my $api = SlotmemApi->new($server);
my %left;    # named memory that killed processes left behind

# The objects that the distributed module could not remove.
END { SlotmemApi::shm_remove(keys %left) }

# ---- the state of the processes ----

sub named_memory {
    return SlotmemApi::shm_names($server->parent, $server->children);
}

# Checks which module is in use, also by its objects in shared memory.
sub runs {
    my ($dso, $what) = @_;
    my %seen;
    for my $pid ($server->parent, $server->children) {
        $seen{$_} = 1
            for SlotmemServer::slurp("/proc/$pid/maps") =~
            m{(/\S+/mod_slotmem_shm\.so)}g;
    }
    is_deeply([keys %seen], [$dso], "$what: all processes use this module");
    my @named = named_memory();
    is_deeply(\@named, [], "$what: no named object") if $dso eq $ours;
    return;
}

# "a Drn Ok 1" of all balancers, with the backend's name instead of its address.
sub shown {
    my %state;
    for my $host (keys %manager) {
        my $state = $manager{$host}->state;
        for my $balancer (keys %$state) {
            next if $balancer eq 'slow';
            $state{"$host $balancer"} = [
                map {
                    (my $status = $_->{status}) =~ s/^Init //;
                    "$name{$_->{url}} $status $_->{factor}"
                } @{ $state->{$balancer} }
            ];
        }
    }
    return \%state;
}

# The result is exact for any number of complete rounds: lbmethod_byrequests
# gives each worker that is neither drained nor disabled as many turns as its
# factor.
sub serves {
    my ($host, $balancer, $what, %factor) = @_;
    my $round = 0;
    $round += $_ for values %factor;
    return is_deeply(
        $manager{$host}->served("/$balancer", 2 * $round),
        { map { $_ => 2 * $factor{$_} } keys %factor },
        "$what: who serves $balancer of host $host"
    );
}

# The data of all slots, the number of free slots, and the slots in use if the
# API tells.
sub contents {
    my $name    = shift;
    my @answers = $api->run((map { "dptr name=$name id=$_" } 0 .. NUM - 1),
        "info name=$name", "doall name=$name");
    my $visited = (pop @answers)->{visited};
    my $free    = (pop @answers)->{free};
    my @slots   = map { $_->{data} =~ s/\0+\z//r } @answers;
    return {
        slots => \@slots,
        free  => $free,
        used  => $type{$name} =~ /pregrab/ ? $visited : 'not told'
    };
}

# ---- changes from one to the other ----

sub load {
    my $dso = shift;
    $server->{dso} = $dso;
    $server->config($server->config);
    return;
}

# Sends requests before, during and after the change, and one that spans it.
sub graceful_under_load {
    my $what   = shift;
    my @old    = $server->children;
    my $client = SlotmemClient->new("http://127.0.0.1:$port{one}/app");
    $gate->hold($server, '/slow');
    $server->graceful(wait_old => 0);
    my $still = sub { grep { $server->is_alive($_) } @old };
    $server->wait_until('end of idle children', sub { $still->() < 2 });
    is(scalar($still->()), 1,
        "[B3] $what: an old child has a request in flight");
    is($gate->release->content, "gate\n", "[B3] $what: which is answered");
    my $count = $client->finish;
    my $turns = ($count->{b} || 0) + ($count->{c} || 0);
    cmp_ok($turns, '>', 1, "$what: requests were made before and after it");
    is_deeply([grep { !/^[bc]$/ } keys %$count], [],
        "[B3] $what: all answered by workers that may serve");
    $server->wait_until('end of the old child', sub { !$still->() });
    return;
}

sub switch {
    my ($dso, $how, $what) = @_;
    load($dso);
    if ($how eq 'graceful') {
        graceful_under_load($what);
    }
    else {
        $server->$_ for split / /, $how;
    }
    runs($dso, $what);
    return;
}

# Returns what they leave behind: named memory and files, as APR chooses.
sub kill_all {
    my @pids = ($server->parent, $server->children);
    my @named = named_memory();
    @left{@named} = (1) x @named;
    kill 'KILL', @pids;
    $server->wait_until('kill', sub { !$server->processes });
    $server->reap;
    return [@named, glob $server->rundir . '/*.shm'];
}

# ---- a balancer, back and forth ----

my $hosts = host('one', balancer('app', 1, qw(a b c)),
    balancer('two', 1, qw(a b c))) . host('two', balancer('app', 1, qw(a b c)));
$server->config("$make$hosts<Proxy balancer://slow>\nBalancerMember "
    . $gate->url . "\n</Proxy>\nProxyPass /slow balancer://slow\n");

$server->start;
runs($theirs, 'first');
my %factor = (b => 2, c => 1);
$manager{one}->drain('app', $url{a});
$manager{one}->set_factor('app', $url{b}, 2);
$manager{one}->disable('two', $url{c});
$manager{two}->set_factor('app', $url{c}, 5);
for my $name (@lasting, 'none') {
    $api->run("fgrab name=$name id=1", "fgrab name=$name id=2",
        "put name=$name id=2 data=of-$name");
}
my %holds = (
    none    => { slots => [('') x NUM],              free => 4 },
    plain   => { slots => ['', '', 'of-plain', ''],   free => 2 },
    pregrab => { slots => ['', '', 'of-pregrab', ''], free => 2 },
    clear   => { slots => ['', '', 'of-clear', ''],   free => 4 }
);
$_->{used} = 'not told' for values %holds;
$holds{pregrab}{used} = '1,2';

sub all_is_there {
    my ($what, $state) = @_;
    is_deeply(shown(), $state, "[E1][B2] $what: the state of all balancers");
    serves('one', 'app', "[E1] $what", %factor);
    serves('one', 'two', "[E1] $what", a => 1, b => 1);
    serves('two', 'app', "[E1] $what", a => 1, b => 1, c => 5);
    is_deeply(contents($_), $holds{$_}, "[E1][E2] $what: type $type{$_}")
        for sort keys %holds;
    return;
}

serves('one', 'app', 'before any change', %factor);
my $state = shown();
is_deeply(
    $state,
    {
        'one app' => ['a Drn Ok 1', 'b Ok 2', 'c Ok 1'],
        'one two' => ['a Ok 1', 'b Ok 1', 'c Dis 1'],
        'two app' => ['a Ok 1', 'b Ok 1', 'c Ok 5']
    },
    'before any change: the configured state'
);
for my $how ('graceful', 'restart', 'stop start') {
    for my $dso ($ours, $theirs) {
        my $what = ($dso eq $ours ? 'to ours' : 'back') . ", $how";
        switch($dso, $how, $what);
        all_is_there($what, $state);
        $factor{b} = 5 - $factor{b};
        $manager{one}->set_factor('app', $url{b}, $factor{b});
        $state->{'one app'}[1] = "b Ok $factor{b}";
    }
}
ok(-e $server->rundir . '/slotmem-shm.lock', 'our lock file disturbs nobody');

# ---- across a kill ----

# Changes since the last store are lost: the distributed module has no
# checkpoints.
$factor{b} = 5 - $factor{b};
$state->{'one app'}[1] = "b Ok $factor{b}";
my $left = kill_all();
$server->log_mark;
load($ours);
$server->start;
isnt("@$left", '', 'the distributed module was killed, and its objects stay');
runs($ours, 'to ours, kill');
all_is_there('to ours, kill', $state);
is($server->log_count(qr/slotmem_shm:(?:warn|error)/), 0,
    '[B7] to ours, kill: no warning or error');

# ---- the files, byte for byte ----

sub persisted { return $server->rundir . "/slotmem-shm-$_[0].shm.persist" }
sub bytes     { return SlotmemServer::slurp(persisted(@_)) }

my @balancers = (['one', 'app'], ['one', 'two'], ['two', 'app']);
my @files = map { $manager{ $_->[0] }->file($_->[1]) } @balancers;
$manager{one}->set_factor('app', $url{c}, 4);
$factor{c} = 4;
$state->{'one app'}[2] = 'c Ok 4';
for my $name (@lasting) {
    $api->run("fgrab name=$name id=3", "put name=$name id=3 data=3-$name",
        "release name=$name id=1");
}
for my $name (qw(claimed changed)) {
    $api->run("fgrab name=$name id=1", "fgrab name=$name id=2",
        "put name=$name id=2 data=d");
}
$api->run('grab name=pregrab', 'fgrab name=none id=3');
$holds{$_} = contents($_) for @lasting;
$holds{clear}{free} = NUM;
is_deeply($holds{pregrab},
    { slots => ['', '', 'of-pregrab', '3-pregrab'], free => 1,
        used => '0,2,3' }, 'to change: the current slots of pregrab');
$server->stop;

my %bits = (plain => 1, pregrab => 5, clear => 9);
my %used = (plain => '2 3', pregrab => '0 2 3', clear => '');
my %image;
for my $name (@lasting) {
    my $file = SlotmemFile::decode(bytes($name), SIZE, NUM);
    is_deeply([@$file{qw(size num type digest_ok exact zero)}],
        [SIZE, NUM, $bits{$name}, 1, 1, 1], "[E1] ours of $type{$name}");
    is_deeply([$file->{slots}, $file->{free}, "@{ $file->{used} }"],
        [$holds{$name}{slots}, $holds{$name}{free}, $used{$name}],
        "[E1] ours of $type{$name}: the same as from the API");
    $image{$name} = SlotmemFile::image(bytes($name), SIZE, NUM);
}
is("@{ SlotmemFile::decode(bytes('claimed'), SIZE, NUM)->{claims} }", '1 2',
    '[E2] ours: the run-time claims');
ok(!-e persisted('none'), '[B2] no file of type none');

# The other data of mod_proxy_balancer, times and counts, changes at a start.
sub stored {
    return [
        map {
            my $file = SlotmemBalancer->stored($_, 4);
            +{ map { $_ => $file->{$_} }
                    qw(free used size num type digest_ok exact slot_of) }
        } @_
    ];
}
my $stored = stored(@files);

# The distributed module writes a complete file if there is none; otherwise it
# writes in place, and the rest stays.
load($theirs);
$server->start;
all_is_there('theirs, from our files', $state);
$api->run('put name=changed id=2 data=e');
unlink @files, map { persisted($_) } @lasting;
$server->stop;
for my $name (@lasting) {
    is(unpack('H*', bytes($name)), $image{$name},
        "[E1] $type{$name}: the distributed module writes the same bytes");
}
is_deeply(stored(@files), $stored, '[E1] and the same slots of balancers');

load($ours);
$server->log_mark;
$server->start;
all_is_there('ours, from their files', $state);
$api->check('info name=claimed', { status => undef, free => 2 },
    '[E2] ours again: the run-time claims of an unchanged file');
$api->check('info name=changed', { status => undef, free => 4 },
    '[E2] ours again: none where the distributed module has changed it');
$api->check('dptr name=changed id=2', { data => 'e' },
    '[E2] which is no damage');
is_deeply(kill_all(), [], '[B7] ours was killed: no object is left');
load($theirs);
$server->start;
all_is_there('theirs, after a kill of ours', $state);
$server->stop;

# ---- workers added at run time: the manual's "Upgrade", and the way back ----

sub add {
    my ($worker, @balancers) = @_;
    for my $balancer (@balancers) {
        $manager{one}->add_enabled($balancer, $url{$worker});
        $manager{one}->set_factor($balancer, $url{$worker}, 2);
    }
    return;
}

for my $way ([$theirs, $ours, 'up'], [$ours, $theirs, 'down']) {
    my ($from, $to, $what) = @$way;
    my ($lost, $kept) = map { "$_-$what" } qw(lost kept);
    my @lost = balancer($lost, 2, qw(a b));
    unlink glob persisted('*');
    load($from);
    $server->config(host('one', @lost, balancer($kept, 3, qw(a b)))
        . host('two'));
    $server->start;
    add('x', $lost, $kept);
    $server->config(host('one', @lost, balancer($kept, 2, qw(a b x)))
        . host('two'));
    load($to);
    $server->graceful;
    my $both = ['a Ok 1', 'b Ok 1', 'x Ok 2'];
    is_deeply(shown(), { "one $lost" => $both, "one $kept" => $both },
        "[E2] $what: added workers come back");
    serves('one', $_, "[E2] $what", a => 1, b => 1, x => 2) for $lost, $kept;
    # In their file, ours treats a worker that is not configured as a run-time
    # claim; theirs treats its slot as free.
    my $ours_now = $what eq 'up';
    is(join(' of ', reverse $manager{one}->slots($lost)),
        $ours_now ? '3 of 4' : '2 of 4',
        "[E6] $what: the slot of one that is not configured");
    add('y', $lost, $kept);
    $server->graceful;
    is_deeply(
        shown(),
        {
            "one $lost" => $ours_now ? [@$both, 'y Ok 2']
                : ['a Ok 1', 'b Ok 1', 'y Ok 2'],
            "one $kept" => [@$both, 'y Ok 2']
        },
        "[E2] $what: the next one gets a slot that is free, not a member's"
    );
    serves('one', $kept, "[E2] $what", a => 1, b => 1, x => 2, y => 2);
    $server->stop;
}

my @known = grep { !/^slotmem-shm-.*\.(?:shm(?:\.persist)?|names)$/ }
    map { m{([^/]+)\z} } glob $server->rundir . '/*';
is("@known", 'slotmem-shm.lock',
    'nothing unknown is left in DefaultRuntimeDir');
is_deeply(
    [
        grep { !/slotmem_shm:warn.* SLOTMEM-01: / }     # full, as expected
            grep { /:(?:warn|error|crit|alert|emerg)\]|exit signal/ }
            split /^/, $server->log
    ],
    [], 'nothing above notice in the error log'
);

done_testing;
