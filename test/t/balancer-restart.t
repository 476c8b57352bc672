#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# The operator's changes in the balancer-manager survive each kind of restart,
# with several children alive and a request in flight.

use strict;
use warnings;

use SlotmemBalancer;
use Test::More;

my $backends = SlotmemBackends->new(qw(a b c x));
my $gate     = SlotmemGate->new;
my %url      = map { $_ => $backends->url($_) } qw(a b c x);

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)],
    config  => <<"EOT");
BalancerPersist On
BalancerGrowth 2
<Proxy balancer://app>
    BalancerMember $url{a}
    BalancerMember $url{b}
    BalancerMember $url{c}
    ProxySet growth=3
</Proxy>
<Proxy balancer://slow>
    BalancerMember @{[ $gate->url ]}
</Proxy>
ProxyPass /app balancer://app
ProxyPass /slow balancer://slow
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
my $manager = SlotmemBalancer->new($server);

# Factors 3 (b), 1 (c) and 1 (x); a gets no requests.
my $set    = [
    "$url{a} Init Drn Ok 1",
    "$url{b} Init Ok 3",
    "$url{c} Init Ok 1",
    "$url{x} Init Ok 1"
];
my $served = { b => 12, c => 4, x => 4 };

sub state_is {
    my $when = shift;
    is_deeply([$manager->table('app')], $set,
        "[B2][E2] $when: the balancer-manager shows what was set");
    is_deeply($manager->served('/app', 20), $served,
        "[B2][E2] $when: requests go where the state says");
    my ($all, $used) = $manager->slots('app');
    is("$used of $all", '4 of 6', "[E2][D9] $when: slots in use");
    return;
}

sub no_crash {
    my $when = shift;
    is($server->log_count(qr/exit signal|:(?:emerg|alert|crit)\]/), 0,
        "$when: no child crashed");
    return;
}

sub mode {
    my $path = shift;
    return sprintf '%04o', (stat $path)[2] & 07777;
}

$server->start;
my $file = $manager->file('app');

is_deeply([$manager->table('app')],
    ["$url{a} Init Ok 1", "$url{b} Init Ok 1", "$url{c} Init Ok 1"], 'fresh');
is_deeply($manager->served('/app', 30), { a => 10, b => 10, c => 10 },
    'requests go to all three');
ok(!-e $file, '[B10] a first start writes no file');

$manager->drain('app', $url{a});
$manager->set_factor('app', $url{b}, 3);
$manager->add_worker('app', $url{x});
is(($manager->table('app'))[3], "$url{x} Init Dis 1", 'added and disabled');
$manager->enable('app', $url{x});
state_is('before any restart');

# ---- graceful, with the request in an old child ----

my @old = $server->children;
$gate->hold($server, '/slow');
$server->graceful(wait_old => 0);
state_is('after a graceful restart');
is(scalar(grep { $server->is_alive($_) } @old),
    1, '[B3] the old child with the request is alive');
is($gate->release->content, "gate\n",
    '[B3] a request in flight succeeds in the old child');
$server->wait_until('end of the old child',
    sub { !grep { $server->is_alive($_) } @old });
no_crash('graceful');

# ---- the file ----

is(mode($file), '0600', 'the file is for its owner only');
like($file, qr{/run/slotmem-shm-\w+_app\.shm\.persist$}, '[C2] its name');
my $image = $manager->stored($file, 6);
is($image->{free}, 6, '[E2] all slots are free in the file');
is("@{ $image->{used} }", '', '[E2] and none is in use');
is("@{ $image->{claims} }", '3', '[E2] one run-time claim in our section');
is($image->{slot_of}{ $url{x} }, 3, '[E2] the worker keeps its slot');

# ---- twice graceful ----

$server->graceful;
state_is('after a second one');

# The time of its start, which mod_proxy writes by itself, is no reason to write
# the files again.
$server->graceful;
my @before = map { [(stat $_)[1, 9]] } glob $server->rundir . '/*.persist';
$server->graceful;
is_deeply([map { [(stat $_)[1, 9]] } glob $server->rundir . '/*.persist'],
    \@before, '[B2] a restart without a change writes no file');
state_is('after that');

# ---- hard restart: the request ends, the state stays ----

$gate->hold($server, '/slow');
my $answer;
$server->restart(during => sub { $answer = $gate->release });
ok(defined $answer, 'the request in flight has ended');
state_is('after a hard restart');
no_crash('hard restart');

# ---- stop and start ----

$gate->hold($server, '/slow');
$server->stop(during => sub { $gate->release });
is(mode($file), '0600', 'the file is for its owner only after stop');
$server->start;
state_is('after stop and start');
no_crash('stop and start');

# ---- kill -9 of the parent; a graceful restart had stored the state ----

$server->graceful;
$gate->hold($server, '/slow');
$server->kill_parent;
cmp_ok(scalar($server->processes),
    '>=', 2, 'the children outlive their parent');
is_deeply($manager->served('/app', 20), $served, '[B3] orphans still serve');
is($gate->release->content, "gate\n",
    '[B3] and complete the request in flight');
$server->end_children;
$server->log_mark;
$server->start;
state_is('after kill -9 and start');
is($server->log_count(qr/slotmem_shm:(?:error|warn)/), 0,
    '[B7] leftovers of the killed server cause no warning or error');

done_testing;
