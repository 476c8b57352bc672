# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The workers of each balancer, from the live slots: on mod_status's page, in
# JSON and in metrics; only if the virtual host has ProxyStatus On or Full, and
# never with a nonce, a secret, or the user and password of a URL.

use strict;
use warnings;

use JSON::PP ();
use SlotmemBalancer;
use Test::More;

plan skip_all => 'the module has no slotmem-status'
    if !SlotmemServer->has_directive('slotmem-status');

my $shown  = SlotmemServer->free_port;
my $hidden = SlotmemServer->free_port;
my $s      = SlotmemServer->new(
    testmod => 0,
    modules => [
        qw(proxy proxy_http proxy_ajp proxy_balancer lbmethod_byrequests)
    ],
    config => <<"EOT");
<Location /slots>
    SetHandler slotmem-status
</Location>
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
Listen 127.0.0.1:$shown
<VirtualHost 127.0.0.1:$shown>
ServerName shop.example.org:$shown
ProxyStatus On
BalancerPersist On
<Proxy balancer://shop>
    BalancerMember http://127.0.0.1:9 route=r1 loadfactor=2
    BalancerMember http://127.0.0.1:10
    BalancerMember ajp://127.0.0.1:12 secret=S3CRET-VALUE
    ProxySet growth=3
</Proxy>
ProxyPass /shop balancer://shop
</VirtualHost>
Listen 127.0.0.1:$hidden
<VirtualHost 127.0.0.1:$hidden>
    ServerName hidden.example.org:$hidden
    ProxyStatus Off
    BalancerPersist On
    <Proxy balancer://hidden>
        BalancerMember http://127.0.0.1:11
    </Proxy>
    ProxyPass /hidden balancer://hidden
</VirtualHost>
EOT
my $manager = SlotmemBalancer->new($s, url => "http://127.0.0.1:$shown");
$s->start;

sub json { return JSON::PP->new->utf8->decode($s->get('/slots')->content) }

# The segment of a balancer, in JSON.
sub segment {
    my $balancer = shift;
    my ($found) = grep { ($_->{balancer} // '') eq "balancer://$balancer" }
        @{ json()->{segments} };
    return $found || {};
}

sub workers {
    return join '; ', map {
        "$_->{slot} $_->{url} $_->{status} [$_->{flags}] $_->{factor} "
            . "$_->{lbset} ($_->{route}) $_->{origin}"
    } @{ segment('shop')->{workers} // [] };
}

my @three = (
    '0 http://127.0.0.1:9 ok [] 2 0 (r1) configuration',
    '1 http://127.0.0.1:10 ok [] 1 0 () configuration',
    '2 ajp://127.0.0.1:12 ok [] 1 0 () configuration'
);
is(workers(), join('; ', @three), 'JSON has the workers');
is(segment('shop')->{slotsDrained}, 0, '... none is drained');

$manager->drain('shop', 'http://127.0.0.1:10');
$manager->add_worker('shop', 'http://127.0.0.1:13');
my $workers = workers();
like($workers, qr{1 http://127\.0\.0\.1:10 drain\w* \[N\] 1 0 \(\) config},
    'a drained worker shows at once');
like($workers, qr{3 http://127\.0\.0\.1:13 [^;]+ run time$},
    'an added worker shows, with its origin');
is(segment('shop')->{slotsDrained}, 1, 'one is drained');

# ---- metrics ----

my $metrics = $s->get('/slots?metrics')->content;
my ($shop) = $metrics =~
    /^slotmem_slots\{([^}]*balancer="balancer:\/\/shop")\}/m;
sub metric {
    my ($name, $url) = @_;
    my $key = qq(slotmem_worker_$name\{$shop,worker="$url"});
    return $metrics =~ /^\Q$key\E (\S+)$/m ? $1 : 'none';
}
is(metric('drained', 'http://127.0.0.1:10'), 1, 'metrics: drained');
is(metric('drained', 'http://127.0.0.1:9'),  0, '... and not');
is(metric('usable', 'http://127.0.0.1:9'),   1, 'metrics: usable');
is(metric('usable', 'http://127.0.0.1:13'),  0, '... or not, as it was added');
is(metric('factor', 'http://127.0.0.1:9'),   2, 'metrics: factor');
is(metric('run_time', 'http://127.0.0.1:13'), 1, 'metrics: run time');
is(metric('run_time', 'http://127.0.0.1:9'),  0, '... and configuration');
like($metrics, qr/^slotmem_slots_drained\{\Q$shop\E\} 1$/m,
    'metrics: the number of drained workers');

# ---- the page ----

my $page = $s->get('/server-status')->content;
like($page, qr{<summary>Workers of balancer://shop: 4, <b>1 drained</b></summary>},
    'the page has them behind a click');
like($page, qr{>http://127\.0\.0\.1:10</td><td><b>drain\w*</b></td><td>1\.00<},
    '... with status and factor');
like($s->get('/server-status?notable')->content,
    qr{<summary>Workers of .*?<br />1; http://127\.0\.0\.1:10; <b>drain}s,
    '... without a table on request');

# ---- data that is not shown ----

my %form = map { $_ => $s->get($_)->content }
    qw(/server-status /server-status?auto /slots /slots?metrics);
my $nonce = $manager->nonce('shop');
for my $url (sort keys %form) {
    my $text = $form{$url};
    unlike($text, qr/127\.0\.0\.1:11\b/,
        "$url: no worker of a virtual host with ProxyStatus Off");
    unlike($text, qr/S3CRET-VALUE/, '... no secret');
    unlike($text, qr/\Q$nonce\E/,   '... no nonce');
}
my $other = segment('hidden');
is($other->{slots}, 1, 'that segment shows');
ok(!exists $other->{workers}, '... without its workers');
ok(!exists $other->{slotsDrained}, '... and without their state');
unlike($form{'/slots?metrics'},
    qr/^slotmem_(?:worker_\w+|slots_drained)\{[^}]*hidden/m,
    '... in metrics too');

$s->graceful;
like(workers(),
    qr{1 http://127\.0\.0\.1:10 drain.*3 http://127\.0\.0\.1:13 .* run time},
    'the same after a restart');
$s->stop;

done_testing;
