#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# Balancers in several virtual hosts; a virtual host without any proxy
# directive, whose children attach to a name that was never created; and two
# balancers whose segments get the same name.

use strict;
use warnings;

use SlotmemBalancer;
use Test::More;

my $backends = SlotmemBackends->new(qw(a b c x));
my %url      = map { $_ => $backends->url($_) } qw(a b c x);
my %port     = map { $_ => SlotmemServer->free_port } qw(one two plain lost);

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)]
);

# The lines of the error log about the death of a child.
sub deaths {
    return $server->log_count(qr/exit signal|Child \d+ returned/);
}

sub host {
    my ($name, $persist) = @_;
    return <<"EOT";
Listen 127.0.0.1:$port{$name}
<VirtualHost 127.0.0.1:$port{$name}>
    BalancerPersist $persist
    <Proxy balancer://app>
        BalancerMember $url{a}
        BalancerMember $url{b}
        ProxySet growth=2
    </Proxy>
    ProxyPass /app balancer://app
    <Location /balancer-manager>
        SetHandler balancer-manager
    </Location>
</VirtualHost>
EOT
}

sub start_with {
    $server->config(join '', @_);
    $server->log_mark;
    return $server->start;
}

# ---- several virtual hosts, each with its own "app" ----

start_with(host('one', 'On'), host('two', 'On'), host('lost', 'Off'));
my %manager = map {
    $_ => SlotmemBalancer->new($server, url => "http://127.0.0.1:$port{$_}")
} qw(one two lost);
$manager{one}->drain('app', $url{a});
$manager{two}->set_factor('app', $url{b}, 3);
$manager{two}->add_enabled('app', $url{x});
$manager{lost}->set_factor('app', $url{b}, 9);
for my $how ('graceful', 'restart', 'stop and start') {
    $server->$_ for $how eq 'stop and start' ? qw(stop start) : $how;
    is_deeply([$manager{one}->table('app')],
        ["$url{a} Init Drn Ok 1", "$url{b} Init Ok 1"],
        "[B2] $how: the first host has its own state");
    is_deeply([$manager{two}->table('app')],
        ["$url{a} Init Ok 1", "$url{b} Init Ok 3", "$url{x} Init Ok 1"],
        "[B2][E2] $how: and the second");
    is_deeply($manager{one}->served('/app', 10), { b => 10 },
        "[B2] $how: requests of the first");
    is_deeply($manager{two}->served('/app', 10), { a => 2, b => 6, x => 2 },
        "[B2][E2] $how: and of the second");
    is(($manager{lost}->table('app'))[1], "$url{b} Init Ok 1",
        "[B1] $how: a host without BalancerPersist starts fresh");
}
ok(-f $manager{$_}->file('app'), "[C2] file of host $_") for qw(one two);
ok(!-e $manager{lost}->file('app'), 'no file for the host without persistence');
isnt($manager{one}->segment('app'), $manager{two}->segment('app'),
    'the segments have different names');
is(deaths(), 0, 'no child died');
$server->stop;

# ---- a virtual host without proxy directives ----

start_with(<<"EOT");
BalancerPersist On
<Proxy balancer://main>
    BalancerMember $url{a}
    ProxySet growth=1
</Proxy>
ProxyPass /app balancer://main
Listen 127.0.0.1:$port{plain}
<VirtualHost 127.0.0.1:$port{plain}>
</VirtualHost>
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
my $plain =
    SlotmemBalancer->new($server, url => "http://127.0.0.1:$port{plain}");
my @children = sort $server->children;
my $main     = SlotmemBalancer->new($server);
for my $when ('start', 'graceful restart') {
    $server->graceful if $when ne 'start';
    @children = sort $server->children;
    is_deeply($plain->served('/nothing', 10), { 404 => 10 },
        "[D2] $when: the host without proxy directives answers");
    is_deeply($main->served('/app', 10), { a => 10 },
        "[D2] $when: so does the other");
    is_deeply([sort $server->children], \@children,
        "[D2] $when: the children stay alive");
}
is(deaths(), 0, '[D2] none died');
my $parent = $server->parent;
is($server->log_count(qr/slotmem_shm:(?!debug)\w+\] \[pid (?!$parent:)/),
    0, '[D2] the children log nothing above debug');
$server->stop;

# ---- two balancers, one name ----

sub dashes {
    my ($first, $second) = @_;
    return <<"EOT";
BalancerPersist On
<Proxy balancer://app-v1>
    BalancerMember $url{a}
    ProxySet growth=$first
</Proxy>
<Proxy balancer://app.v1>
    BalancerMember $url{b}
    BalancerMember $url{c}
    ProxySet growth=$second
</Proxy>
ProxyPass /dash balancer://app-v1
ProxyPass /dot  balancer://app.v1
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
}

# Whether a backend answered all requests; its answer is not a number.
sub serves {
    my $path = shift;
    return !grep { /\d/ } keys %{ $main->count($path, 10) };
}

# Members and growth: 4 and 4 slots, then 4 and 6.
for my $second (2, 4) {
    my $what = 'slots 4 and ' . (2 + $second);
    start_with(dashes(3, $second));
    is($main->segment('app-v1'), $main->segment('app.v1'),
        "$what: two balancers have one name");
    ok(serves('/dash'), "[C4] $what: one serves");
    ok(serves('/dot'),  "[C4] $what: and the other");
    my $segment = $main->segment('app.v1');
    my $warned  = $server->log_has('SLOTMEM-05', 'warn', $segment, 4, 6);
    is($warned, $second == 4 ? 1 : 0, "[C4] $what: a warning if it needs more");
    is($server->log_count(qr/slotmem_shm:error/), 0, "[C4] $what: no error");
    is(($main->slots('app.v1'))[0], 2 + $second, "$what: the page")
        if $second == 2;
    $server->graceful;
    ok(serves('/dot'), "[C4] $what: after a restart");
    is(deaths(), 0, "[C4] $what: no child died");
    $server->stop;
}

done_testing;
