#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# An operator whose new configuration fails, and who goes back to the old one,
# finds the old state: only a generation that has served changes files.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use File::Basename qw(basename);
use IO::Socket::INET;
use SlotmemBalancer;
use Test::More;

my $backends = SlotmemBackends->new(qw(a b c x));
my %url      = map { $_ => $backends->url($_) } qw(a b c x);

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests ssl)]
);
my $manager = SlotmemBalancer->new($server);

sub config_of {
    my ($tail, @members) = @_;
    my $lines = join '', map { "    BalancerMember $url{$_}\n" } @members;
    return <<"EOT";
BalancerPersist On
<Proxy balancer://app>
$lines    ProxySet growth=1
</Proxy>
ProxyPass /app balancer://app
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
$tail
EOT
}

# Name, mode and digest of the files in the runtime directory.
sub snapshot {
    return [
        map {
            join ' ', basename($_), (stat)[2], md5_hex(SlotmemServer::slurp($_))
        } grep { !/httpd\.pid$/ } sort glob $server->rundir . '/*'
    ];
}

my $good = config_of('', qw(a b c));
my $want = ["$url{a} Init Drn Ok 1", "$url{b} Init Ok 2", "$url{c} Init Ok 1"];
$server->config($good);
$server->start;
$manager->drain('app', $url{a});
$manager->set_factor('app', $url{b}, 2);
$server->stop;
my $before = snapshot();
is(scalar(@$before), 4,
    'the host, its balancer, the lock of both, and their names');

# Two balancers whose segments have the same name, and no slot for the second:
# this fails late, in the second pass, when balancer://app has its segments.
my $late = <<"EOT";
<Proxy balancer://z-1>
    BalancerMember $url{a}
</Proxy>
<Proxy balancer://z.1>
    BalancerMember $url{b}
    BalancerMember $url{c}
</Proxy>
EOT
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1);
my $ports = 'Listen 127.0.0.1:' . $taken->sockport;
my $ssl   = "<VirtualHost 127.0.0.1:*>\nSSLEngine on\n</VirtualHost>";

my %bad = (
    'a syntax error'            => config_of('NoSuchDirective', qw(a b c)),
    'a port in use'             => config_of($ports,            qw(a b c)),
    'SSL without a certificate' => config_of($ssl,              qw(a b c)),
    'a late failure'            => config_of($late,             qw(a b c)),
    'late, one member fewer'    => config_of($late,             qw(a b)),
    'late, one member more'     => config_of($late,             qw(a b c x)),
);
for my $what (sort keys %bad) {
    $server->config($bad{$what});
    my $output = $server->start_fails;
    ok(defined $output, "$what: the start fails");
    like($output, qr/slotmem_shm.*_app/, "$what: after the segments were made")
        if $what =~ /late/;
    is(SlotmemServer->said($output, 'SLOTMEM-27', 'notice', $server->rundir), 1,
        "[B7] $what: a line says how to start without the state")
        if $what =~ /late/;
    is_deeply(snapshot(), $before, "[B10] $what: the files have not changed");
}

# A server that never starts does not change files either.
$server->config(config_of('', qw(a b)));
for my $option (qw(-t -S)) {
    my ($code) = $server->run_args($option);
    is($code, 0, "[B9] httpd $option works");
    is_deeply(snapshot(), $before, "[B9][B10] $option changes no files");
}

$server->config($good);
$server->start;
is_deeply([$manager->table('app')], $want,
    '[B10] the old configuration finds the old state');
is_deeply($manager->served('/app', 9), { b => 6, c => 3 },
    '[B10] and requests follow it');
is_deeply(snapshot(), $before, '[B10] starting writes nothing');

# A restart that fails ends the server; the state of the old generation is
# stored.
for my $signal (qw(USR1 HUP)) {
    $manager->set_factor('app', $url{c}, 4);
    $server->config($bad{'a syntax error'});
    ok(defined $server->restart_fails($signal), "$signal fails");
    $server->config($good);
    $server->start;
    is(($manager->table('app'))[2], "$url{c} Init Ok 4",
        "[B2][B10] $signal into a bad configuration: the state is stored");
    $manager->set_factor('app', $url{c}, 1);
    $server->graceful;
}
is_deeply([$manager->table('app')], $want, '[B2] as before');
unlike($server->log, qr/exit signal/, 'no crash');

done_testing;
