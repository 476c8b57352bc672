#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# Workers that were added at run time, while members are added at the start and
# at the end of the configuration, replaced, and exceed the room, across each
# kind of restart. balancer-members.t has single changes of the members.

use strict;
use warnings;

use SlotmemBalancer;
use Test::More;

my @names    = qw(a b c d e x y);
my $backends = SlotmemBackends->new(@names);
my %url      = map { $_ => $backends->url($_) } @names;
my %name     = reverse %url;

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)]
);
my $manager = SlotmemBalancer->new($server);

# Each way to restart has its own balancer.
sub configure {
    my ($balancer, $growth, @members) = @_;
    return $manager->configure($balancer, $growth, @url{@members});
}

sub add {
    my ($balancer, $name, $factor) = @_;
    $manager->add_enabled($balancer, $url{$name});
    $manager->set_factor($balancer, $url{$name}, $factor);
    return;
}

my %how = (
    'graceful'     => sub { $server->graceful },
    'hard'         => sub { $server->restart },
    'stop, start'  => sub { $server->stop; $server->start },
);

# Each worker exists once, with its status and factor, and none is without a
# name. Each then serves its share in two rounds of all factors together.
sub workers_are {
    my ($balancer, $what, %factor) = @_;
    is_deeply(
        [
            sort map {
                ($name{ $_->{url} } // "nameless '$_->{url}'")
                    . "$_->{status} $_->{factor}"
            } $manager->workers($balancer)
        ],
        [sort map { $_ . "Init Ok $factor{$_}" } keys %factor],
        "$what: each exists once"
    );
    my $round = 0;
    $round += $_ for values %factor;
    is_deeply(
        $manager->served('/app', 2 * $round),
        { map { $_ => 2 * $factor{$_} } keys %factor },
        "$what: each serves"
    );
    return;
}

sub complaints { return $server->log_count(qr/slotmem_shm:(?:error|warn)/) }

for my $how (sort keys %how) {
    (my $app = "growth-$how") =~ s/\W+/-/g;
    my $again = $how{$how};
    my %both  = (x => 2, y => 3);
    my %ones  = (a => 1, b => 1, c => 1, d => 1);

    configure($app, 3, qw(a b));
    $server->start;
    add($app, 'x', 2);
    $again->();
    add($app, 'y', 3);
    workers_are($app, "[E2] $how: y added after a restart",
        %both, a => 1, b => 1);

    configure($app, 2, qw(c a b));
    $again->();
    workers_are($app, "[E2][E6] $how: one more member, first in the list",
        %both, %ones{qw(a b c)});

    configure($app, 3, qw(c a b d));
    $again->();
    workers_are($app, "[E2][E5] $how: another one at the end, and more slots",
        %both, %ones);

    configure($app, 3, qw(c a e d));
    $again->();
    workers_are($app, "[E2][E6] $how: b replaced by e",
        %both, %ones{qw(a c d)}, e => 1);

    $again->();
    workers_are($app, "[E2][E6] $how: b does not come back",
        %both, %ones{qw(a c d)}, e => 1);
    is(complaints(), 0, "[E2] $how: no warning or error");

    # The same number of slots: y keeps its own, and b takes the free one.
    configure($app, 1, qw(c a e d b y));
    $again->();
    workers_are($app, "[E2] $how: y is written into the configuration",
        %both, %ones, e => 1);
    is(complaints(), 0, "[E2] $how: which takes nobody's slot");

    $server->stop;
    no_room($app, $how, $again);
}

# All slots except one are claimed at run time, and then the configuration has
# three members: the two highest run-time workers go, and the start succeeds.
sub no_room {
    my ($app, $how, $again) = @_;
    my $full = "$app-full";
    configure($full, 4, 'a');
    $server->start;
    add($full, $_, 1) for qw(b c x y);
    configure($full, 2, qw(d a e));
    $again->();
    my %left = map { $_ => 1 } qw(a b c d e);
    workers_are($full, "[E6] $how: no room for x and y", %left);
    my $segment = $manager->segment($full);
    is($server->log_has('SLOTMEM-24', 'warn', $segment, @url{qw(x y)}), 1,
        "[E6] $how: one warning names both");
    is(complaints(), 1, "[E6] $how: and no other line");
    $server->log_mark;
    $again->();
    workers_are($full, "[E6] $how: the same after one more restart", %left);
    is(complaints(), 0, "[E2] $how: without a warning or error");
    $server->stop;
    return;
}

unlike($server->log, qr/exit signal|:(?:emerg|alert|crit)\]/, 'no crash');

done_testing;
