#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# State follows its member through changes of the configuration, and the newer
# setting wins: a table of changes, each with its own balancer, all on one
# server, so that all share each restart.
#
# The server goes through four kinds of restart. A row has one step for the
# first configuration and one for each change. Its changes come at consecutive
# restarts; the first of these is chosen by rotation. At all other restarts its
# configuration does not change, and neither must its state.

use strict;
use warnings;

use SlotmemBalancer;
use SlotmemChanges;
use SlotmemFile;
use Test::More;
use Time::HiRes qw(sleep);

# The tags and levels of the lines in the log.
my %tag = (
    removed  => ['SLOTMEM-23', 'notice'],    # a member or balancer was removed
    edited   => ['SLOTMEM-25', 'notice'],    # the configuration has changed
    dropped  => ['SLOTMEM-24', 'warn'],      # no room for run-time workers
    lbmethod => ['SLOTMEM-26', 'warn'],      # no module provides the lbmethod
);

# A row: its title, then its steps.
#   members  the configured members; params: of the balancer (ProxySet); growth
#   set      the operator's changes in the manager
#   is       the workers after the restart, in any order, including run-time
#            workers; settings that are not listed have their defaults
#   at       settings of the balancer, as the manager shows them
#   nonce    'new', or its value; otherwise it must not change
#   gone     members that lines at notice must report as removed
#   dropped  run-time workers that a warning must name
#   edited   members whose line at notice says that the configuration has won
#   fresh    members that must not have kept their count of requests
#   serves   0: do not check which workers get requests
#   most     connections that a child may have to each; the number of threads
#            if not given (prefork shows 0)
#   health   the columns of the health check
# If a step has no members, params or growth, those of the previous step apply.
my $drain = 'drain a, factor b 3';
my @rows  = (
    # ---- members ----
    ['nothing', { members => 'a, b, c', set => $drain },
        { is => 'a Drn, b f=3, c' }],
    ['appended', { members => 'a, b', set => $drain },
        { members => 'a, b, c', is => 'a Drn, b f=3, c' }],
    ['inserted first', { members => 'a, b', set => $drain },
        { members => 'c, a, b', is => 'c, a Drn, b f=3' }],
    ['inserted in the middle', { members => 'a, b', set => $drain },
        { members => 'a, c, b', is => 'a Drn, c, b f=3' }],
    ['the first removed', { members => 'c, a, b', set => $drain },
        { members => 'a, b', is => 'a Drn, b f=3', gone => 'c' }],
    ['one in the middle removed', { members => 'a, c, b', set => $drain },
        { members => 'a, b', is => 'a Drn, b f=3', gone => 'c' }],
    ['the last removed', { members => 'a, b, c', set => $drain },
        { members => 'a, b', is => 'a Drn, b f=3', gone => 'c' }],
    ['two removed', { members => 'c, a, d, b', set => "$drain, factor d 2" },
        { members => 'a, b', is => 'a Drn, b f=3', gone => 'c, d' }],
    ['removed, and growth= has room for it',
        { members => 'a, c, b', set => $drain, growth => 1 },
        { members => 'a, b', growth => 2, is => 'a Drn, b f=3', gone => 'c' }],
    ['replaced', { members => 'a, c, b', set => "$drain, factor c 5" },
        { members => 'a, d, b', is => 'a Drn, d, b f=3', gone => 'c' }],
    ['order reversed', { members => 'a, b, c', set => $drain },
        { members => 'c, b, a', is => 'c, b f=3, a Drn' }],
    ['sorted', { members => 'c, a, d, b', set => $drain },
        { members => 'a, b, c, d', is => 'a Drn, b f=3, c, d' }],
    ['only one left', { members => 'a, b', set => 'factor a 3' },
        { members => 'a', is => 'a f=3', gone => 'b' }],
    ['only one left, its loadfactor configured',
        { members => 'a loadfactor=5, b' },
        { members => 'a loadfactor=5', is => 'a f=5', gone => 'b' }],
    ['one more than one', { members => 'a loadfactor=5' },
        { members => 'a loadfactor=5, b', is => 'a f=5, b' }],
    ['one disabled, one more', { members => 'a, b', set => 'disable a' },
        { members => 'c, a, b', is => 'c, a Dis, b' }],
    ['hot standby, and the others removed',
        { members => 'a, b, c', set => 'standby c' },
        { members => 'c', is => 'c Stby', gone => 'a, b' }],
    ['hot spare, ignored errors, stopped, order reversed',
        { members => 'a, b, c, d', set => 'spare b, ignore c, halt d' },
        { members => 'd, c, b, a', is => 'a, b Spar, c Ign, d Stop' }],
    ['route, redirect and set of the manager, one inserted first',
        { members => 'a, b',
            set => 'route a ra, redirect a rb, route b rb, lbset a 1' },
        { members => 'c, a, b',
            is => 'c, a route=ra redirect=rb lbset=1, b route=rb' }],
    ['error, and one inserted first', { members => 'dead retry=600, b' },
        { members => 'c, dead retry=600, b', is => 'c, dead Err, b' }],

    # ---- several changes ----
    ['removed, then put back', { members => 'a, b, c', set => 'drain b' },
        { members => 'a, c', is => 'a, c', gone => 'b' },
        { members => 'a, b, c', is => 'a, b, c' }],
    ['replaced, then put back', { members => 'a, b', set => 'factor b 4' },
        { members => 'a, c', is => 'a, c', gone => 'b' },
        { members => 'a, b', is => 'a, b', gone => 'c' }],
    ['several changes', { members => 'a, b', set => $drain },
        { members => 'c, a, b', is => 'c, a Drn, b f=3', set => 'disable c' },
        { members => 'b, a, d, c', is => 'b f=3, a Drn, d, c Dis',
            set => 'factor d 2, undrain a' },
        { members => 'd, c, a', is => 'd f=2, c Dis, a', gone => 'b' }],
    ['removed and added back with what the manager had set',
        { members => 'a, b route=r1', set => 'route b r2' },
        { members => 'a', is => 'a', gone => 'b' },
        { members => 'b route=r1, a', is => 'b route=r1, a' }],

    # ---- growth, and workers added at run time ----
    ['growth= raised', { members => 'a, b', growth => 1, set => $drain },
        { growth => 3, is => 'a Drn, b f=3' }],
    ['growth= lowered', { members => 'a, b', growth => 4, set => $drain },
        { growth => 1, is => 'a Drn, b f=3' }],
    ['growth= removed', { members => 'a, b', growth => 4, set => $drain },
        { growth => undef, is => 'a Drn, b f=3' }],
    ['growth= lowered, one added at run time',
        { members => 'a, b', growth => 3, set => "$drain, add x" },
        { growth => 1, is => 'a Drn, b f=3, x' }],
    ['x added at run time, one appended',
        { members => 'a, b', growth => 2, set => "$drain, add x, factor x 2" },
        { members => 'a, b, c', is => 'a Drn, b f=3, c, x f=2' }],
    ['x added at run time, one inserted first',
        { members => 'a, b', growth => 2, set => "$drain, add x, factor x 2" },
        { members => 'c, a, b', is => 'a Drn, b f=3, c, x f=2' }],
    ['x added at run time, one appended, no room left',
        { members => 'a, b', growth => 2, set => "$drain, add x, factor x 2" },
        { members => 'a, b, c', growth => 1,
            is => 'a Drn, b f=3, c, x f=2' }],
    ['x added at run time, one removed',
        { members => 'a, c, b', growth => 2, set => "$drain, add x, drain x" },
        { members => 'a, b', is => 'a Drn, b f=3, x Drn', gone => 'c' }],
    ['x added at run time, one replaced',
        { members => 'a, c, b', growth => 2, set => "$drain, add x" },
        { members => 'a, d, b', is => 'a Drn, b f=3, d, x', gone => 'c' }],
    ['x added at run time and not enabled, order reversed',
        { members => 'a, b', growth => 1, set => "add-disabled x" },
        { members => 'b, a', is => 'a, b, x Dis' }],
    ['x added at run time is configured',
        { members => 'a, b', growth => 2,
            set => "$drain, add x, factor x 2, route x rx" },
        { members => 'a, b, x', is => 'a Drn, b f=3, x f=2 route=rx' }],
    ['x added at run time is configured, first in the list',
        { members => 'a, b', growth => 2, set => "$drain, add x, drain x" },
        { members => 'x, a, b', is => 'a Drn, b f=3, x Drn' }],
    ['x added at run time is configured, with a loadfactor',
        { members => 'a, b', growth => 2,
            set => "$drain, add x, factor x 2, drain x" },
        { members => 'a, b, x loadfactor=4', is => 'a Drn, b f=3, x Drn f=4',
            edited => 'x' }],
    ['x added at run time is configured, then removed',
        { members => 'a, b', growth => 2, set => "$drain, add x" },
        { members => 'a, b, x', is => 'a Drn, b f=3, x' },
        { members => 'a, b', is => 'a Drn, b f=3', gone => 'x' }],
    ['run-time workers, and less room',
        { members => 'a, b', growth => 3,
            set => "$drain, add x, add y, add w" },
        { growth => 1, is => 'a Drn, b f=3, x', dropped => 'y, w' }],
    ['run-time workers, and no room',
        { members => 'a, b', growth => 2, set => "$drain, add x, add y" },
        { growth => undef, is => 'a Drn, b f=3', dropped => 'x, y' }],
    ['run-time workers, and members take the room',
        { members => 'a', growth => 2, set => 'drain a, add x, add y' },
        { members => 'b, a', growth => 1, is => 'b, a Drn, x',
            dropped => 'y' }],
    ['run-time workers in the middle of what goes',
        { members => 'a, c, b', growth => 3, set => "$drain, add x, add y" },
        { members => 'd, b, a', growth => 2, gone => 'c',
            is => 'a Drn, b f=3, d, x, y' }],
    ['added at run time one by one',
        { members => 'a, b', growth => 3, set => 'drain a, add x' },
        { members => 'c, a, b', is => 'c, a Drn, b, x', set => 'add y' },
        { members => 'b, a', is => 'a Drn, b, x, y', gone => 'c' }],

    # ---- the newer setting wins: settings of a member ----
    ['loadfactor edited',
        { members => 'a loadfactor=2, b', set => 'drain a, factor a 7' },
        { members => 'a loadfactor=3, b', is => 'a Drn f=3, b',
            edited => 'a' }],
    ['loadfactor edited, not set in the manager',
        { members => 'a loadfactor=2, b' },
        { members => 'a loadfactor=3, b', is => 'a f=3, b' }],
    ['loadfactor unchanged, another word edited',
        { members => 'a loadfactor=2 route=r1, b', set => 'factor a 7' },
        { members => 'a loadfactor=2 route=r2, b', is => 'a f=7 route=r2, b' }],
    ['loadfactor removed',
        { members => 'a loadfactor=2, b', set => 'factor a 7' },
        { members => 'a, b', is => 'a, b', edited => 'a' }],
    ['loadfactor edited, then set again, then something else',
        { members => 'a loadfactor=2, b', set => 'factor a 7' },
        { members => 'a loadfactor=3, b', is => 'a f=3, b', edited => 'a',
            set => 'factor a 8' },
        { members => 'c, a loadfactor=3, b', is => 'a f=8, b, c' }],
    ['a flag added, drained', { members => 'a, b', set => 'drain b' },
        { members => 'a, b status=+H', is => 'a, b Drn Stby' }],
    ['a flag removed, drained',
        { members => 'a, b status=+H', set => 'drain b' },
        { members => 'a, b', is => 'a, b Drn' }],
    ['a flag of the configuration cleared in the manager',
        { members => 'a, b status=+H', set => 'unstandby b' },
        { members => 'c, a, b status=+H', is => 'c, a, b' }],
    ['disabled in the configuration, enabled in the manager',
        { members => 'a, b status=+D', set => 'enable b' },
        { members => 'b status=+D, a', is => 'a, b' }],
    ['disabled in the manager, then in the configuration, then in neither',
        { members => 'a, b', set => 'disable b' },
        { members => 'a, b status=+D', is => 'a, b Dis' },
        { members => 'a, b', is => 'a, b' }],
    ['route edited', { members => 'a route=r1, b', set => 'drain a' },
        { members => 'a route=r2, b', is => 'a Drn route=r2, b' }],
    ['route edited that the manager had set',
        { members => 'a route=r1, b', set => 'route a rm' },
        { members => 'a route=r2, b', is => 'a route=r2, b', edited => 'a' }],
    ['redirect edited',
        { members => 'a redirect=r1, b', set => 'drain a' },
        { members => 'a redirect=r2, b', is => 'a Drn redirect=r2, b' }],
    ['set edited', { members => 'a lbset=1, b', set => 'drain b' },
        { members => 'a lbset=2, b lbset=1',
            is => 'a lbset=2, b Drn lbset=1' }],
    ['set of the manager, timeout edited',
        { members => 'a, b', set => 'lbset a 2, drain b' },
        { members => 'a timeout=9, b timeout=8',
            is => 'a lbset=2 timeout=9, b Drn timeout=8' }],
    ['timeout edited', { members => 'a timeout=7, b', set => 'drain a' },
        { members => 'a timeout=9, b', is => 'a Drn timeout=9, b' }],
    ['timeout removed', { members => 'a timeout=7, b', set => 'drain a' },
        { members => 'a, b', is => 'a Drn, b' }],
    ['max= edited', { members => 'a max=2, b max=2', set => 'drain a' },
        { members => 'a max=3, b', is => 'a Drn, b', most => 'a 3, b' }],
    ['max= not set, other threads', { members => 'a, b', set => 'drain a',
            growth => 1 }, { is => 'a Drn, b', most => 'a, b' }],
    ['max= not set, other threads, x added at run time',
        { members => 'a, b', growth => 1, set => 'add x' },
        { is => 'a, b, x', most => 'a, b, x' }],

    # ---- settings of a balancer ----
    ['lbmethod edited',
        { members => 'a, b', params => 'lbmethod=bytraffic', set => 'drain a' },
        { params => 'lbmethod=bybusyness', is => 'a Drn, b',
            at => 'lbmethod=bybusyness' }],
    ['lbmethod of the manager',
        { members => 'a, b', set => 'lbmethod bybusyness' },
        { members => 'c, a, b', is => 'a, b, c', at => 'lbmethod=bybusyness' }],
    ['lbmethod of the manager, then edited',
        { members => 'a, b', params => 'lbmethod=byrequests',
            set => 'lbmethod bybusyness' },
        { params => 'lbmethod=bytraffic', is => 'a, b', serves => 0,
            at => 'lbmethod=bytraffic' }],
    ['sticky edited',
        { members => 'a, b', params => 'stickysession=ONE', set => 'drain a' },
        { params => 'stickysession=TWO|two', is => 'a Drn, b',
            at => 'sticky=TWO|two' }],
    ['sticky of the manager',
        { members => 'a, b', params => 'stickysession=ONE',
            set => 'sticky MINE' },
        { members => 'b, c, a', is => 'a, b, c', at => 'sticky=MINE' }],
    ['sticky of the manager, then edited',
        { members => 'a, b', params => 'stickysession=ONE',
            set => 'sticky MINE' },
        { params => 'stickysession=TWO', is => 'a, b', at => 'sticky=TWO' }],
    ['sticky deleted in the manager',
        { members => 'a, b', params => 'stickysession=ONE', set => 'sticky -' },
        { members => 'b, a', is => 'a, b', at => 'sticky=(None)' }],
    ['attempts and failover of the manager',
        { members => 'a, b', set => 'attempts 5, nofailover 1' },
        { members => 'c, a, b', is => 'a, b, c',
            at => 'attempts=5 failover=On' }],
    ['attempts edited',
        { members => 'a, b', params => 'maxattempts=4', set => 'drain a' },
        { params => 'maxattempts=6', is => 'a Drn, b', at => 'attempts=6' }],
    ['attempts not set, more members', { members => 'a, b' },
        { members => 'a, b, c, d', is => 'a, b, c, d', at => 'attempts=3' }],
    ['timeout of the balancer, in the manager',
        { members => 'a, b', set => 'timeout 4' },
        { members => 'b, a', is => 'a, b', at => 'timeout=4' }],
    ['timeout of the balancer edited',
        { members => 'a, b', params => 'timeout=4', set => 'timeout 6' },
        { params => 'timeout=5', is => 'a, b', at => 'timeout=5' }],

    # ---- the nonce ----
    ['nonce given', { members => 'a, b', params => 'nonce=given-one' },
        { members => 'b, a', is => 'a, b', nonce => 'given-one' }],
    ['nonce edited', { members => 'a, b', params => 'nonce=given-one' },
        { params => 'nonce=given-two', is => 'a, b', nonce => 'given-two' }],
    ['nonce given later', { members => 'a, b' },
        { params => 'nonce=given-one', is => 'a, b', nonce => 'given-one' }],
    ['nonce given, then removed',
        { members => 'a, b',
            params => 'nonce=11111111-2222-3333-4444-555555555555' },
        { params => '', is => 'a, b', nonce => 'new' }, { is => 'a, b' }],
    ['nonce not wanted', { members => 'a, b', params => 'nonce=None' },
        { members => 'b, a', is => 'a, b', nonce => '' }],

    # ---- health checks ----
    ['health check of the manager', { members => 'a, b', set =>
            'hcmethod a TCP, hcinterval a 20000, hcpasses a 2, hcfails a 3' },
        { members => 'c, a, b', is => 'a, b, c',
            health => 'a TCP 20000ms 2 3' }],
    ['health check edited',
        { members => 'a hcmethod=TCP hcinterval=10, b', set => 'drain a' },
        { members => 'a hcmethod=HEAD hcinterval=12 hcuri=/x, b',
            is => 'a Drn, b', health => 'a HEAD 12000ms 1 1 /x' }],
    ['health check of the manager, another word edited',
        { members => 'a hcmethod=TCP hcinterval=10, b',
            set => 'hcmethod a NONE' },
        { members => 'a hcmethod=TCP hcinterval=15, b', is => 'a, b',
            health => 'a NONE 15000ms 1 1' }],

    ['health check failed, and one inserted first',
        { members => 'dead hcmethod=TCP hcinterval=600 hcfails=100, b',
            set => 'hcfail dead' },
        { members => 'c, dead hcmethod=TCP hcinterval=600 hcfails=100, b',
            is => 'c, dead HcFl, b' }],
    ['health check failed, and there is none', { members => 'a, b' },
        { is => 'a, b', set => 'hcfail a' }, { is => 'a, b' }],

    # ---- sockets ----
    ['sockets', { members => 'u1, a', set => 'drain u1' },
        { members => 'a, u2, u1', is => 'u1 Drn, u2, a', serves => 0 }],
    ['sockets with one URL, which share a slot',
        { members => 'a, u1, same', growth => 1,
            set => 'drain a, add x, drain x' },
        { members => 'u1, same, a, b', is => undef, serves => 0 }],
);

# ---- the server ----

my @names    = qw(a b c d e w x y z);
my $backends = SlotmemBackends->new(@names);
my %url      = map { $_ => $backends->url($_) } @names;
$url{dead} = 'http://127.0.0.1:' . SlotmemServer->free_port;
$url{u1}   = 'unix:/nowhere/u1.sock|http://127.0.0.1:8001/';
$url{u2}   = 'unix:/nowhere/u2.sock|http://127.0.0.1:8002/';
$url{same} = 'unix:/nowhere/same.sock|http://127.0.0.1:8001/';

# The kill comes after a checkpoint; otherwise the end of a generation stores.
my @ways = qw(graceful kill restart stop);
@ways = qw(graceful restart stop)
    if !SlotmemServer->has_directive('SlotmemCheckpointInterval');
my %hurry = map { $_ - 1 => 1 } grep { $ways[$_ - 1] eq 'kill' } 1 .. @ways;
my @modules = (qw(proxy proxy_http proxy_balancer),
    map { "lbmethod_$_" } qw(byrequests bybusyness bytraffic));

my ($server, $changes, $port, @table);

# The first configuration of a row, and the kinds of restart at which its
# changes come, which shift by one with each turn.
sub place {
    my ($row, $turn) = @_;
    my ($title, $first, @steps) = @$row;
    my $of = { title => $title, name => sprintf('r%02d', scalar @table) };
    my $from = 1 + (@table + $turn) % (@ways - @steps + 1);
    my %now = %$first;
    for my $generation (0 .. @ways) {
        my $step = $generation == 0 ? $first
            : $generation >= $from ? shift @steps : undef;
        for my $key (qw(members params growth)) {
            $now{$key} = $step->{$key} if $step && exists $step->{$key};
        }
        $of->{config}[$generation] = $changes->balancer(
            $of->{name},
            growth  => $now{growth},
            params  => $now{params},
            members => [list($now{members})]
        );
        $of->{slots}[$generation] = list($now{members}) + ($now{growth} // 0);
        $of->{step}[$generation]  = $step;
    }
    push @table, $of;
    return;
}

sub list { return grep { $_ ne '' } split /,\s*/, $_[0] // '' }

# Hosts whose balancers change, and one that is added later. All balancers have
# the same two members, and the manager sets %host_set when they are new.
my %host_set  = (set => 'drain a, factor b 3, lbmethod bybusyness, sticky S');
my %balancers = (
    added    => [['h1', 'h2'], ['h0', 'h1', 'h2']],
    removed  => [['h1', 'h2', 'h3'], ['h1', 'h3']],
    reversed => [['h1', 'h2', 'h3'], ['h3', 'h2', 'h1']],
    late     => [[], ['h1']],
);
my (%host, %moves);    # their ports; the generation with the change

sub host_balancers {
    my ($host, $generation) = @_;
    return @{ $balancers{$host}[$generation >= $moves{$host} ? 1 : 0] };
}

sub host_config {
    my ($host, $generation) = @_;
    my @balancers = host_balancers($host, $generation) or return '';
    return join '', "Listen 127.0.0.1:$host{$host}\n",
        "<VirtualHost 127.0.0.1:$host{$host}>\nBalancerPersist On\n",
        (map { $changes->balancer($_, members => ['a', 'b'], growth => 1) }
            @balancers), "</VirtualHost>\n";
}

my $manager_page = <<'EOT';
BalancerPersist On
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT

# Only both directives together keep the hosts from inheriting the balancers
# of the main server.
sub configure {
    my $generation = shift;
    my $hurry = $hurry{$generation} ? <<'EOT' : '';
SlotmemCheckpointInterval 1
SlotmemTest post_config hurry ms=20
EOT
    $server->config(join '', $manager_page, $hurry,
        "BalancerInherit Off\nProxyPassInherit Off\n",
        (map { $_->{config}[$generation] } @table),
        $changes->balancer('last', members => ['a']),
        map { host_config($_, $generation) } sort keys %host);
    return;
}

# ---- between two restarts ----

my %seen;    # by port, then by balancer

sub observe {
    my $generation = shift;
    $seen{$_} = $changes->observe($_)
        for $port, map { $host{$_} }
        grep { host_balancers($_, $generation) } keys %host;
    return;
}

# Two rounds of requests, so that the counts are not 0.
sub use_it {
    my ($generation) = @_;
    for my $of (@table) {
        my $step = $of->{step}[$generation];
        $changes->change($seen{$port}, $of->{name}, list($step->{set}))
            if $step && $step->{set};
        my $requests = $generation == 0 ? 4 : 1;
        $changes->ask($port, "/$of->{name}") for 1 .. $requests;
    }
    for my $host (keys %host) {
        my $new = $generation == 0 ? 1 : $moves{$host} == $generation;
        next if !$new;
        $changes->change($seen{ $host{$host} }, $_, list($host_set{set}))
            for host_balancers($host, $generation);
    }
    observe($generation);
    return;
}

# Once a setting that was changed last is in its file for the third time, a
# complete checkpoint has run after all earlier changes.
sub wait_for_checkpoint {
    my $of = $seen{$port}{last};
    for my $word (qw(first second third)) {
        $changes->change($seen{$port}, 'last', "route a $word");
        $server->wait_until('a checkpoint', sub {
            return index(SlotmemServer::slurp($changes->path($of)), $word) >= 0;
        });
    }
    return;
}

sub go_on {
    my $way = shift;
    if ($way eq 'kill') {
        $server->kill_parent;
        $server->end_children;
    }
    elsif ($way eq 'stop') {
        $server->stop;
        $server->{threads} = 6 if $server->mpm ne 'prefork';
    }
    return;
}

# ---- the expected state ----

my @log;    # lines of the last restart

# The lines of a level that name a row's segment or balancer, and a member; with
# the tag, if the module has tags.
sub lines {
    my ($level, $of, $what, $member) = @_;
    my ($tag) = $what ? @{ $tag{$what} } : ('');
    return grep {
        /slotmem_shm:$level\]/ && /$of->{name}\b/
            && (!$member || /\Q$url{$member}\E/)
            && /\Q$tag\E/
    } @log;
}

# Workers with their counts, by name.
sub elected {
    my $of = shift;
    return { map { $_->{name} => $_->{elected} } @{ $of->{workers} } };
}

sub at {
    my ($of, @which) = @_;
    return { map { $_ => $of->{$_} } @which };
}

# Sends requests until each worker that should answer has done so; no other may.
sub answers {
    my ($of, $path) = @_;
    my @serving = SlotmemChanges::serving($of);
    my %wanted = map { $_->{name} => 1 } @serving;
    my $round = 0;
    $round += $_->{factor} for @serving;
    my %count;
    for (1 .. 3 * $round + 1) {
        my $who = $changes->ask($of->{port}, $path);
        $count{$who}++;
        last if !$wanted{$who};
        last if $_ >= $round && keys %count == keys %wanted;
    }
    return (join(' ', sort keys %count), join(' ', sort keys %wanted) || '503');
}

# The default number of attempts depends on the number of members, so it is only
# compared in the rows that test it.
sub unchanged {
    my ($of, $was, $now, $title) = @_;
    my @same = qw(slots used sticky failover timeout lbmethod nonce);
    push @same, 'attempts' if $of->{title} =~ /^attempts/;
    my ($before, $after) = map {
        { %{ at($_, @same) }, elected => elected($_),
            workers => [sort { $a cmp $b } SlotmemChanges::plain($_)] }
    } $was, $now;
    is_deeply($after, $before, "[E6] $title: nothing has changed");
    most_is($of, $now, $title);
    return;
}

# The connections to each worker; also later, when the number of threads
# changes.
sub most_is {
    my ($of, $now, $title) = @_;
    return if !$of->{most};
    my $prefork = $server->mpm eq 'prefork';
    is_deeply(
        { map { $_->{name} => $_->{max} } @{ $now->{workers} } },
        { map {
            my ($name, $max) = split;
            $name => $prefork ? 0 : $max // $server->{threads};
        } list($of->{most}) },
        "[E6][E7] $title: connections to each"
    );
    return;
}

sub changed {
    my ($of, $step, $generation, $was, $now, $title) = @_;
    my %was = map { $_->{name} => $_->{elected} } @{ $was->{workers} };
    delete @was{ list($step->{fresh}) };
    if (defined $step->{is}) {
        is_deeply([sort { $a cmp $b } SlotmemChanges::plain($now)],
            [sort { $a cmp $b } list($step->{is})],
            "[E6] $title: each worker once, with its state");
        is("$now->{used} of $now->{slots}",
            list($step->{is}) . " of $of->{slots}[$generation]",
            "[E6] $title: slots");
        is_deeply(
            elected($now),
            { map { /^(\S+)/; $1 => $was{$1} // 0 } list($step->{is}) },
            "[E6] $title: the counts continue"
        );
    }
    my %at = ((map { split /=/, $_, 2 } split ' ', $step->{at} // ''));
    $at{$_} //= $was->{$_} for qw(sticky failover timeout lbmethod);
    $at{nonce} = $step->{nonce} // $was->{nonce};
    if ($at{nonce} eq 'new') {
        isnt($now->{nonce}, $was->{nonce}, "[E6] $title: another nonce");
        $at{nonce} = $now->{nonce};
    }
    is_deeply(at($now, keys %at), \%at, "[E6] $title: the balancer's settings");
    $of->{most} = $step->{most};
    most_is($of, $now, $title);
    if ($step->{health}) {
        my ($name, @health) = split ' ', $step->{health};
        my ($worker) = grep { $_->{name} eq $name } @{ $now->{workers} };
        my $found = $worker->{health} // '';
        $found =~ s/ \(\d+\)//g;
        $found =~ s/\s+$//;
        is($found, "@health", "[E6] $title: health check");
    }
    said($of, $step, $title);
    return;
}

# One line at notice for each removed member.
sub said {
    my ($of, $step, $title) = @_;
    for my $name (list($step->{gone})) {
        is(scalar lines('notice', $of, 'removed', $name), 1,
            "[E6] $title: a line at notice says that $name was removed");
    }
    for my $name (list($step->{edited})) {
        is(scalar lines('notice', $of, 'edited', $name), 1,
            "[E6] $title: a line at notice names $name");
    }
    my @dropped = list($step->{dropped});
    my @warn    = lines('warn', $of, 'dropped');
    is(scalar @warn, @dropped ? 1 : 0,
        "[E6] $title: " . (@dropped ? 'one warning' : 'no warning'));
    is(scalar(grep { "@warn" =~ /\Q$url{$_}\E/ } @dropped), scalar @dropped,
        "[E6] $title: which names the dropped ones") if @dropped;
    is(scalar lines('(?:error|crit|alert|emerg)', $of, ''), 0,
        "[E6] $title: no error");
    my @lost = (@dropped, list($step->{gone}));
    $of->{bak} ||= @lost ? 1 : 0;
    push @{ $of->{lost} }, @lost;
    return;
}

sub check_table {
    my ($generation, $way, $old) = @_;
    for my $of (@table) {
        my $step = $of->{step}[$generation];
        my ($was, $now) = ($old->{ $of->{name} }, $seen{$port}{ $of->{name} });
        my $title = "$of->{title}, $way";
        if ($step) {
            $of->{serves} = $step->{serves} // 1;
            changed($of, $step, $generation, $was, $now, $title);
        }
        else {
            unchanged($of, $was, $now, $title);
        }
        next if !($of->{serves} // 1);
        my ($answered, $wanted) = answers($now, "/$of->{name}");
        is($answered, $wanted, "[E6] $title: the right workers serve");
    }
    return;
}

# Existing balancers keep their state, new ones are fresh, and removed ones are
# named.
sub check_hosts {
    my ($generation, $way, $old) = @_;
    my @same = qw(sticky lbmethod nonce slots used);
    for my $host (sort keys %host) {
        host_said($generation) if $host eq 'removed';
        for my $name (host_balancers($host, $generation)) {
            my $was   = $old->{ $host{$host} }{$name};
            my $now   = $seen{ $host{$host} }{$name};
            my $title = "balancers $host, $way: $name";
            if (!$was) {
                is_deeply([SlotmemChanges::plain($now), $now->{lbmethod}],
                    ['a', 'b', 'byrequests'], "[E6] $title is fresh");
                next;
            }
            is_deeply([SlotmemChanges::plain($now)],
                [SlotmemChanges::plain($was)], "[E6] $title: its members");
            is_deeply(at($now, @same), at($was, @same),
                "[E6] $title: its settings");
        }
    }
    return;
}

sub host_said {
    my $generation = shift;
    my ($id) = $seen{ $host{removed} }{h1}{segment} =~ /^(\w+)_h1$/;
    my $said = grep { /slotmem_shm:notice\]/ && /\b$id\b/ && /\bh2\b/ }
        @log;
    is($said, $generation == $moves{removed} ? 1 : 0,
        '[E6] one line at notice says which balancer was removed');
    return;
}

# Without faults the module warns only of rows that must lose run-time workers.
sub check_rest {
    my $way = shift;
    my %may = map { $_->{name} => 1 }
        grep { grep { $_ && $_->{dropped} } @{ $_->{step} } } @table;
    my @rest = grep { !/(r\d\d)\b/ || !$may{$1} }
        grep { /slotmem_shm:(?:warn|error|crit|alert|emerg)\]/ } @log;
    is(scalar @rest, 0, "[E6] $way: no other warning or error")
        or diag($rest[0]);
    return;
}

# ---- the run ----

# The step from one generation to the next, by the restart whose turn it is.
sub next_generation {
    my $generation = shift;
    my $way = $ways[$generation - 1];
    wait_for_checkpoint() if $way eq 'kill';
    my %old = %seen;
    my $mark = $server->log_mark;
    go_on($way);
    configure($generation);
    $way eq 'graceful' || $way eq 'restart' ? $server->$way : $server->start;
    observe($generation);
    @log = split /\n/, $server->log_since($mark);
    check_table($generation, $way, $old{$port});
    check_hosts($generation, $way, \%old);
    check_rest($way);
    use_it($generation) if $generation < @ways;
    return;
}

# Adds one more worker wherever there is room.
sub add_workers {
    my @room = grep {
        my $of = $seen{$port}{ $_->{name} };
        ($_->{serves} // 1) && $of->{used} < $of->{slots};
    } @table;
    $changes->change($seen{$port}, $_->{name}, 'add z') for @room;
    my %old = %{ $seen{$port} };
    observe(scalar @ways);
    for my $of (@room) {
        my ($was, $now) = ($old{ $of->{name} }, $seen{$port}{ $of->{name} });
        is_deeply(
            [sort { $a cmp $b } SlotmemChanges::plain($now)],
            [sort { $a cmp $b } SlotmemChanges::plain($was), 'z'],
            "[E6] $of->{title}: then one more worker"
        );
        my ($answered, $wanted) = answers($now, "/$of->{name}");
        is($answered, $wanted,
            "[E6] $of->{title}: then the right workers serve");
    }
    return;
}

sub kept_is {
    my ($path, $bak, $title) = @_;
    my @kept = grep { !/\.lock$/ } glob "$path.*";
    is("@kept", $bak ? "$path.bak" : '',
        "[E6] $title: " . ($bak ? 'one .bak' : 'no other file'));
    is(sprintf('%04o', (stat $_)[2] & 07777), '0600', "[E6] $title: its mode")
        for grep { -e } "$path.bak";
    return;
}

sub check_files {
    for my $of (@table) {
        my $path = $changes->path($seen{$port}{ $of->{name} });
        kept_is($path, $of->{bak}, $of->{title});
        my $bytes = $of->{bak} ? SlotmemServer::slurp("$path.bak") : '';
        ok((grep { index($bytes, $url{$_}) >= 0 } @{ $of->{lost} }),
            "[E6] $of->{title}: which has the lost state") if $of->{bak};
    }
    for my $host (sort keys %host) {
        my $path = $changes->path($seen{ $host{$host} }{h1});
        $path =~ s/_h1\b// or die "$path: no segment of h1\n";
        kept_is($path, $host eq 'removed', "balancers $host");
        is_deeply([labels($path)]->[1], [port => $host{$host}],
            "[E11] balancers $host: the port of the server");
        my @names = map {"balancer://$_"} host_balancers($host, scalar @ways);
        is(join(' ', map { $_->[1] } grep { $_->[0] eq 'balancer' }
                labels($path)),
            "@names", "[E11] balancers $host: their names");
    }
    my @labels = labels($changes->path($seen{$port}{last}));
    is(join(' ', map { $_->[0] } @labels), 'server port balancer',
        '[E11] the labels of members have nothing else, so no member URLs');
    is("$labels[0][1] $labels[2][1]", '127.0.0.1 balancer://last',
        '[E11] ... server and balancer');
    return;
}

# The labels of a file, as pairs.
sub labels {
    my $bytes = SlotmemServer::slurp(shift);
    my ($size, $num) = SlotmemFile::shape($bytes);
    my @strings =
        split /\0/, SlotmemFile::decode($bytes, $size, $num)->{labels} // '';
    return map { [splice @strings, 0, 2] } 1 .. @strings / 2;
}

# Each turn has its own server.
sub turn {
    my $turn = shift;
    $server  = SlotmemServer->new(
        timeout => 30,
        modules => ['watchdog', @modules, 'proxy_hcheck']
    );
    $changes = SlotmemChanges->new($server, \%url);
    $port    = $server->port;
    @table   = ();
    %seen    = ();
    place($_, $turn) for @rows;
    my $hosts = 0;
    for my $name (sort keys %balancers) {
        $host{$name}  = SlotmemServer->free_port;
        $moves{$name} = 1 + ($hosts++ + $turn) % @ways;
    }
    configure(0);
    $server->start;
    observe(0);
    use_it(0);
    next_generation($_) for 1 .. @ways;
    add_workers();
    $server->stop;
    check_files();
    unlike($server->log, qr/exit signal (?!Killed)|:(?:emerg|alert|crit)\]/,
        'no crash');
    return;
}

# ---- balancers that several hosts inherit ----

# Three servers share the members, and each has its own segment.
sub inherited {
    my (@steps) = @_;
    $server  = SlotmemServer->new(testmod => 0, modules => \@modules);
    $changes = SlotmemChanges->new($server, \%url);
    my @ports = ($server->port, map { SlotmemServer->free_port } 1 .. 3);
    my ($hosts, $members, $growth) = (2, 'a, b', 2);
    for my $step (undef, @steps) {
        ($hosts, $members, $growth) =
            ($step->{hosts} // $hosts, $step->{members} // $members,
            $step->{growth} // $growth) if $step;
        my $way = $step ? $step->{way} : 'start';
        my $title = "inherited, $way" . ($step ? ": $step->{what}" : '');
        $server->stop if $way eq 'stop';
        $server->config(join '', $manager_page,
            $changes->balancer('inherited', members => [list($members)],
                growth => $growth),
            map { <<"EOT" } @ports[1 .. $hosts]);
Listen 127.0.0.1:$_
<VirtualHost 127.0.0.1:$_>
    BalancerPersist On
@{[ $changes->balancer('own', members => ['a']) ]}</VirtualHost>
EOT
        $way eq 'graceful' || $way eq 'restart'
            ? $server->$way : $server->start;
        my $set = $step ? $step->{set} : "$drain, add x, factor x 2";
        if ($step) {
            inherited_is($title, $step->{is}, @ports[0 .. $hosts]);
        }
        $changes->change($changes->observe($ports[0]), 'inherited', list($set));
    }
    $server->stop;
    my @bad = glob $server->rundir . '/*.bad-*';
    is("@bad", '', '[E6] inherited: no file was refused');
    is(scalar(grep { /slotmem_shm:(?:warn|error)\]/ }
                split /\n/, $server->log), 0,
        '[E6] inherited: no warning or error');
    unlike($server->log, qr/exit signal|:(?:emerg|alert|crit)\]/, 'no crash');
    return;
}

sub inherited_is {
    my ($title, $is, @ports) = @_;
    for my $i (0 .. $#ports) {
        my $now = $changes->observe($ports[$i])->{inherited};
        is_deeply([sort { $a cmp $b } SlotmemChanges::plain($now)],
            [sort { $a cmp $b } list($is)], "[E6] $title: as server $i shows");
        my ($answered, $wanted) = answers($now, '/inherited');
        is($answered, $wanted,
            "[E6] $title: the right workers serve server $i");
    }
    return;
}

# ---- two balancers that share a segment ----

# Each may show all members; none is lost, and none appears twice.
sub one_segment {
    my @steps = @_;
    $server  = SlotmemServer->new(testmod => 0, modules => \@modules);
    $changes = SlotmemChanges->new($server, \%url);
    my @both = qw(app-v1 app.v1);
    for my $step (@steps) {
        my $title = "balancers of one segment, $step->{way}";
        $server->config(join '', $manager_page, map {
            $changes->balancer($both[$_], growth => 4,
                members => [list($step->{members}[$_])])
        } 0, 1);
        $server->stop if $step->{way} eq 'stop';
        $step->{way} =~ /^(?:graceful|restart)$/
            ? $server->${ \$step->{way} } : $server->start;
        my $seen = $changes->observe($server->port);
        for my $name ($step->{is} ? @both : ()) {
            my @plain = SlotmemChanges::plain($seen->{$name});
            my %wrong = map { $_ => 1 } @plain;
            delete @wrong{ list($step->{is}) };
            is(join(', ', sort keys %wrong), '',
                "[E6] $title: $name shows none with a wrong state");
            my %times;
            $times{ (split)[0] }++ for @plain;
            is(join(', ', grep { $times{$_} > 1 } sort keys %times), '',
                "[E6] $title: $name shows none twice");
            my ($own) = grep { $both[$_] eq $name } 0, 1;
            is(join(', ', grep { !$times{$_} } list($step->{members}[$own])),
                '', "[E6] $title: $name shows all its members");
        }
        $changes->change($seen, 'app-v1', list($step->{set}[0]));
        $changes->change($seen, 'app.v1', list($step->{set}[1]));
    }
    $server->stop;
    unlike($server->log, qr/exit signal|:(?:emerg|alert|crit)\]/, 'no crash');
    return;
}

# ---- requests in flight, and a method whose module is gone ----

# Three old generations, each with a request in flight.
sub in_flight {
    my @gates = map { SlotmemGate->new } 1 .. 3;
    my %gate  = map { ("g$_" => $gates[$_]->url) } 0 .. 2;
    $server  = SlotmemServer->new(testmod => 0, modules => \@modules);
    $changes = SlotmemChanges->new($server, \%gate);
    $server->config(join '', $manager_page, map {
        $changes->balancer("busy$_", members => ["g$_"],
            params => 'lbmethod=bybusyness')
    } 0 .. 2);
    $server->start;
    for my $i (0 .. 2) {
        $gates[$i]->hold($server, "/busy$i");
        my $now = $changes->observe($server->port)->{"busy$i"}{workers}[0];
        is($now->{busy}, 1, "busy: request $i is in flight");
        $server->graceful(wait_old => 0);
        busy_is("graceful $i, requests in flight in old children");
    }
    is($gates[$_]->release->content, "gate\n", "[B3] request $_ succeeds")
        for 0 .. 2;
    $server->graceful;
    busy_is('all have ended');
    $server->stop;
    $server->start;
    busy_is('stop and start');
    $server->stop;
    return;
}

sub busy_is {
    my $title = shift;
    my $seen  = $changes->observe($server->port);
    is(join(' ', map { $seen->{"busy$_"}{workers}[0]{busy} } 0 .. 2), '0 0 0',
        "[E7] $title: idle means not busy");
    return;
}

# The first server would not start if the method were restored.
sub method_is_gone {
    for my $way (qw(graceful stop)) {
        $server  = SlotmemServer->new(testmod => 0, modules => \@modules);
        $changes = SlotmemChanges->new($server, \%url);
        $server->config($manager_page
                . $changes->balancer('gone', members => ['a', 'b'])
                . $changes->balancer('stays', members => ['a', 'b']));
        $server->start;
        my $seen = $changes->observe($server->port);
        $changes->change($seen, 'gone', 'lbmethod bytraffic', 'drain a');
        $changes->change($seen, 'stays', 'lbmethod bybusyness', 'drain a');
        my $mark = $server->log_mark;
        $server->stop if $way eq 'stop';
        $server->modules(grep { $_ ne 'lbmethod_bytraffic' } @modules);
        my $up = eval {
            $way eq 'stop' ? $server->start : $server->graceful;
            1;
        };
        ok($up, "[E7] $way: the server starts without the method's module");
        next if !$up;
        $seen = $changes->observe($server->port);
        is("$seen->{gone}{lbmethod} $seen->{stays}{lbmethod}",
            'byrequests bybusyness', "[E7] $way: the configured method");
        is(join(', ', SlotmemChanges::plain($seen->{gone})), 'a Drn, b',
            "[E7] $way: the members keep their state");
        my @warn = grep { /slotmem_shm:(?:warn|error|crit|alert|emerg)\]/ }
            split /\n/, $server->log_since($mark);
        is(scalar @warn, 1, "[E7] $way: one line");
        my ($tag, $level) = @{ $tag{lbmethod} };
        like($warn[0] // '', qr/:$level\].*\Q$tag\E/,
            "[E7] $way: a warning");
        like($warn[0] // '', qr/gone.*bytraffic|bytraffic.*gone/,
            "[E7] $way: that names balancer and method");
        $server->stop;
    }
    return;
}

# ---- what the distributed module has stored ----

# It stores no words of the configuration: stored settings stay, and a member
# that is not configured now may have been added at run time, so it keeps
# serving.
sub from_distributed {
    my $theirs = SlotmemServer->apxs_query('exp_libexecdir')
        . '/mod_slotmem_shm.so';
    my $ours = SlotmemServer->default_dso;
    my $bytes = -f $theirs ? SlotmemServer::slurp($theirs) : '';
    SKIP: {
        skip 'there is no distributed module to start with', 1
            if $bytes eq '' || $ours eq 'static'
            || index($bytes, 'SlotmemPersistDir') >= 0
            || $bytes eq SlotmemServer::slurp($ours);
        $server = SlotmemServer->new(testmod => 0, modules => \@modules,
            dso => $theirs);
        $changes = SlotmemChanges->new($server, \%url);
        $server->config($manager_page . $changes->balancer('app',
            members => ['a', 'b', 'c'], growth => 1));
        $server->start;
        $changes->change($changes->observe($server->port), 'app',
            list($drain), 'disable c', 'add x');
        $server->stop;
        $server->{dso} = $ours;
        $server->config($manager_page . $changes->balancer('app',
            members => ['d', 'a loadfactor=2', 'b'], growth => 2));
        my $mark = $server->log_mark;
        $server->start;
        my $now = $changes->observe($server->port)->{app};
        is_deeply([sort { $a cmp $b } SlotmemChanges::plain($now)],
            ['a Drn', 'b f=3', 'c Dis', 'd', 'x'],
            '[E6] from the distributed module: settings and workers stay');
        is($server->log_count(qr/slotmem_shm:(?:error|crit|alert|emerg)\]/),
            0, '[E6] from the distributed module: no error');
        $server->stop;
    }
    return;
}

# ---- the run ----

# Each MPM starts at another place in the rotation. With as many turns as ways,
# each row is tried in each way.
my %first = (prefork => 0, worker => 1, event => 2);
my $first = $first{ $ENV{SLOTMEM_MPM} || 'event' } // 0;
turn($first + $_) for 0 .. ($ENV{SLOTMEM_TURNS} || 1) - 1;

inherited(
    { what => 'unchanged', way => 'graceful', is => 'a Drn, b f=3, x f=2' },
    { what => 'one inserted first', way => 'restart', members => 'c, a, b',
        is => 'c, a Drn, b f=3, x f=2' },
    { what => 'a host more', way => 'graceful', hosts => 3,
        is => 'c, a Drn, b f=3, x f=2' },
    { what => 'one removed', way => 'stop', members => 'c, a',
        is => 'c, a Drn, x f=2', set => 'undrain a, disable c' },
    { what => 'x is configured', way => 'graceful', members => 'x, c, a',
        is => 'x f=2, c Dis, a' },
    { what => 'hosts less', way => 'restart', hosts => 1,
        is => 'x f=2, c Dis, a' },
);

my $union = 'a Drn, b f=2, c f=3';
one_segment(
    { way => 'start', members => ['a, b', 'c'], set => [$drain =~ s/3/2/r,
        'factor c 3'] },
    { way => 'graceful', members => ['a, b', 'c'], is => $union },
    { way => 'restart', members => ['d, a, b', 'c'], is => "$union, d" },
    { way => 'stop', members => ['b, a', 'c'], is => $union },
    { way => 'graceful', members => ['b, a', 'e, c'], is => "$union, e" },
);

in_flight();
method_is_gone();
from_distributed();
$backends->stop;

done_testing;
