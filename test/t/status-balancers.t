# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# In all forms, mod_proxy_balancer's segments are named by virtual host and
# balancer, and not by hashes (contract E11).

use strict;
use warnings;

use JSON::PP ();
use SlotmemServer;
use Test::More;

plan skip_all => 'the module has no slotmem-status'
    if !SlotmemServer->has_directive('slotmem-status');

my $port = SlotmemServer->free_port;
my $s    = SlotmemServer->new(
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)],
    config  => <<"EOT");
BalancerPersist On
<Location /slots>
    SetHandler slotmem-status
</Location>
<Proxy balancer://shop.v1>
    BalancerMember http://127.0.0.1:9
    ProxySet growth=2
</Proxy>
<Proxy balancer://shop-v1>
    BalancerMember http://127.0.0.1:10
    ProxySet growth=2
</Proxy>
Listen 127.0.0.1:$port
<VirtualHost 127.0.0.1:$port>
    ServerName www.example.org:$port
    BalancerPersist Off
    <Proxy balancer://app>
        BalancerMember http://127.0.0.1:11
    </Proxy>
</VirtualHost>
SlotmemTest post_config create name=other size=8 num=1
EOT
$s->start;

my $json = JSON::PP->new->utf8->decode($s->get('/slots')->content);
my %segment;    # its label => its name
for my $one (@{ $json->{segments} }) {
    my $called = join ' of ', $one->{balancer} // (),
        $one->{virtualHost} // 'nobody';
    $segment{$called} = $one->{name};
}
my ($main) = $s->url('') =~ m{//([^/]+)};
my $shops  = 'balancer://shop.v1 balancer://shop-v1';
is(join('; ', sort keys %segment), join('; ', sort
        $main, "$shops of $main", "www.example.org:$port",
        "$shops of www.example.org:$port",    # inherited
        "balancer://app of www.example.org:$port", 'nobody'),
    'each segment is labelled with virtual host and balancer');
is($segment{nobody}, 'other', '... and that of another consumer is not');

my $app     = $segment{"balancer://app of www.example.org:$port"};
my $metrics = $s->get('/slots?metrics')->content;
like($metrics, qr/^slotmem_slots\{segment="$app",virtual_host=
        "www\.example\.org:$port",balancer="balancer:\/\/app"\}\ 1$/mx,
    'metrics have labels for it');
like($metrics, qr/^slotmem_slots\{segment="other"\} 1$/m,
    '... if they are known');
like($metrics, qr/^slotmem_slots\{[^}]*balancer="\Q$shops\E"\} 3$/m,
    '... and both names if two balancers share a segment')
    or diag($metrics);

my $auto = $s->get('/server-status?auto')->content;
my ($i) = $auto =~ /^ModSlotmemSegment\[(\d+)\]Name: $app$/m;
like($auto, qr/^ModSlotmemSegment\[$i\]VirtualHost: www\.example\.org:$port$/m,
    '?auto has the virtual host');
like($auto, qr/^ModSlotmemSegment\[$i\]Balancer: balancer:\/\/app$/m,
    '... and the balancer');

my $page = $s->get('/server-status')->content;
like($page,
    qr{>$app</td><td [^>]*>balancer://app of www\.example\.org:$port<},
    'the page has a column for it');
like($page, qr/>all balancers of \Q$main\E</, '... also for a server');

$s->graceful;
is($s->get('/slots?metrics')->content =~ /balancer="balancer:\/\/app"/, 1,
    'the same after a restart');
$s->stop;

done_testing;
