#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# Changes of a balancer's members, in the configuration and at run time.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use SlotmemBalancer;
use Test::More;

my $backends = SlotmemBackends->new(qw(a b c d x y));
my %url      = map { $_ => $backends->url($_) } qw(a b c d x y);

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)]
);
my $manager = SlotmemBalancer->new($server);

# Each part uses its own balancer, so that it starts without a file.
sub configure {
    my ($balancer, $growth, @members) = @_;
    return $manager->configure($balancer, $growth, @url{@members});
}

# Compared by digest, so that a failure does not print the bytes.
sub digest { return md5_hex(SlotmemServer::slurp(@_)) }

# "a Ok 1", with the backend's name instead of its address.
sub shown {
    my $balancer = shift;
    my %name     = reverse %url;
    return [
        map {
            my ($status) = $_->{status} =~ /^Init (.*)/;
            "$name{$_->{url}} $status $_->{factor}"
        } $manager->workers($balancer)
    ];
}

# The same, whatever the order.
sub members { return [sort @{ shown(@_) }] }

sub add {
    my ($balancer, $name) = @_;
    $manager->add_enabled($balancer, $url{$name});
    return;
}

sub complaints { return $server->log_count(qr/slotmem_shm:(?:error|warn)/) }

# ---- a member added at the end ----

configure('grow', 2, qw(a b));
$server->start;
$manager->drain('grow', $url{a});
$manager->set_factor('grow', $url{b}, 2);
add('grow', 'x');
configure('grow', 2, qw(a b c));
$server->graceful;
my $kept = ['a Drn Ok 1', 'b Ok 2', 'c Ok 1', 'x Ok 1'];
is_deeply(members('grow'), $kept,
    '[E5] one more member: the others keep their state, the new one is fresh');
is_deeply($manager->served('/app', 20), { b => 10, c => 5, x => 5 },
    '[E5] and gets requests');
is(join(' of ', reverse $manager->slots('grow')), '4 of 5',
    '[E5][E2] the run-time worker keeps its slot beside it');
is(complaints(), 0, '[E5] growth causes no warning or error');
$server->stop;
$server->start;
is_deeply(members('grow'), $kept, '[E5] the same after stop and start');
my $file = $manager->file('grow');

# ---- one removed: fewer slots ----

$server->stop;
my $old = digest($file);
configure('grow', 2, qw(a b));
$server->start;
is_deeply(members('grow'), ['a Drn Ok 1', 'b Ok 2', 'x Ok 1'],
    '[E6] one member fewer: the others keep their state');
is($server->log_has('SLOTMEM-23', 'notice', $url{c}, "$file.bak"), 1,
    '[E6] one notice names it, and the path of the kept file');
is(complaints(), 0, '[E6] and there is no warning or error');
ok(!-e "$file.bak", '[B10] the start does not copy the file');
is(digest($file), $old, '[B10] nor changed');
$manager->set_factor('grow', $url{b}, 4);
$server->graceful;
is(digest("$file.bak"), $old, '[E6] the first store keeps the old file');
is(sprintf('%o', (stat "$file.bak")[2] & 07777), '600', '[E6] for its owner');
is($manager->stored($file, 4)->{num}, 4, '[E6] and writes the new one');
is_deeply(members('grow'), ['a Drn Ok 1', 'b Ok 4', 'x Ok 1'],
    '[E6][B2] which is restored');
$server->stop;
is(digest("$file.bak"), $old, '[E6] the next store does not change it');
is(join(' ', glob "$file.bad-*"), '', '[E6] nothing is set aside');

# ---- run-time workers keep their slots ----

configure('claims', 2, qw(a b));
$server->start;
add('claims', 'x');
is(complaints(), 0, '[E2] there is room left: no warning');
$server->graceful;
add('claims', 'y');
my $segment = $manager->segment('claims');
is($server->log_only('SLOTMEM-01', 'warn', $segment), 1,
    '[E2] the last slot is granted: one warning names the segment');
is_deeply(shown('claims'), ['a Ok 1', 'b Ok 1', 'x Ok 1', 'y Ok 1'],
    '[E2] a second worker after a restart does not replace the first');
for my $how (qw(graceful restart)) {
    $server->$how;
    is_deeply(shown('claims'), ['a Ok 1', 'b Ok 1', 'x Ok 1', 'y Ok 1'],
        "[E2] $how: both exist, once");
    is_deeply($manager->served('/app', 20), { map { $_ => 5 } qw(a b x y) },
        "[E2] $how: both serve");
}
$server->stop;
$server->start;
is_deeply($manager->served('/app', 20), { map { $_ => 5 } qw(a b x y) },
    '[E2] stop and start: both serve');
$file = $manager->stored($manager->file('claims'), 4);
is("@{ $file->{claims} }", '2 3', '[E2] the file has their claims');

# ---- a member replaced ----

configure('claims', 2, qw(a c));
$server->graceful;
is_deeply(members('claims'), ['a Ok 1', 'c Ok 1', 'x Ok 1', 'y Ok 1'],
    '[E2] a member replaced: the old one is gone, run-time workers stay');
$server->restart;
is_deeply($manager->served('/app', 20), { map { $_ => 5 } qw(a c x y) },
    '[E2][E6] and does not come back');

# ---- one more member, which takes room from the growth, and no free slot ----

configure('claims', 1, qw(a c d));
$server->graceful;
is_deeply(members('claims'), ['a Ok 1', 'c Ok 1', 'd Ok 1', 'x Ok 1'],
    '[E6] no free slot: the highest run-time worker goes');
is($server->log_has('SLOTMEM-24', 'warn', $segment, $url{y}), 1,
    '[E6] one warning names segment and worker');
is_deeply($manager->served('/app', 20), { map { $_ => 5 } qw(a c d x) },
    '[E6] and the start succeeds');
$server->stop;

# ---- a run-time worker that the configuration takes over ----

configure('adopt', 2, qw(a b));
$server->start;
add('adopt', 'x');
$manager->set_factor('adopt', $url{x}, 3);
configure('adopt', 1, qw(a b x));
$server->graceful;
is_deeply(shown('adopt'), ['a Ok 1', 'b Ok 1', 'x Ok 3'],
    '[E2] a run-time worker written into the configuration: once, its state');
$file = $manager->file('adopt');
$server->stop;
is("@{ $manager->stored($file, 4)->{claims} }", '',
    '[E2] its run-time claim is gone');

# ---- removed, with the same number of slots, and another one listed first ----

configure('places', 1, qw(a b));
$server->start;
$manager->set_factor('places', $url{a}, 2);
$manager->set_factor('places', $url{b}, 3);
configure('places', 2, qw(a));
$server->graceful;
is_deeply(shown('places'), ['a Ok 2'],
    '[E6] removed: it does not come back, with the same number of slots');
configure('places', 1, qw(c a));
$server->graceful;
is_deeply(members('places'), ['a Ok 2', 'c Ok 1'],
    '[E6] a new member listed first takes nobody\'s state');
$server->stop;

unlike($server->log, qr/exit signal|:(?:emerg|alert|crit)\]/, 'no crash');

done_testing;
