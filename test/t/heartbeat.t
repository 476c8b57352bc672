# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# mod_heartmonitor and mod_lbmethod_heartbeat: posted heartbeats decide which
# backend gets the requests, also across restarts. A heartbeat counts for the
# address that it comes from, so backend N is at 127.0.0.N.

use strict;
use warnings;

use LWP::UserAgent;
use SlotmemServer;
use Test::More;

use constant {
    SLOTS    => 10,           # the minimum of HeartbeatMaxServers
    LATE     => 15,           # its heartbeat comes when all slots are taken
    MANY     => 1_000_000,    # ready: no other is picked by chance
    REQUESTS => 12,
};

# Backends 2, 3 and LATE answer with their own number.
my @backends = (2, 3, LATE);
my $backend  = SlotmemServer->new(
    modules => ['alias'],
    mpm     => 'event',
    dso     => '',
    testmod => 0,
    servers => 1,
    threads => 16
);
my $port = $backend->port;
for my $n (@backends) {
    my $file = $backend->root . "/htdocs/$n.txt";
    open my $out, '>', $file or die "$file: $!";
    print {$out} $n;
    close $out;
    $backend->append_config(<<"EOT");
Listen 127.0.0.$n:$port
<VirtualHost 127.0.0.$n:$port>
    AliasMatch ^ "$file"
</VirtualHost>
EOT
}
$backend->start;

my $server;

# Sends a heartbeat of backend $n; returns the code of the answer.
sub beat {
    my ($n, $ready) = @_;
    my $agent = LWP::UserAgent->new(
        local_address => "127.0.0.$n",
        timeout       => 20
    );
    return $agent->post($server->url('/hb'),
        Content => "v=1&ready=$ready&busy=0")->code;
}

sub beats {
    my ($ready, $name) = @_;
    my @numbers = sort { $a <=> $b } keys %$ready;
    is_deeply([map { beat($_, $ready->{$_}) } @numbers],
        [(200) x @numbers], $name);
    return;
}

# The backends that answered, as "2" or "2 3".
sub served {
    my $path = shift;
    my %seen;
    for (1 .. REQUESTS) {
        my $response = $server->get($path);
        $seen{ $response->is_success ? $response->content : $response->code }++;
    }
    return join ' ', sort { $a <=> $b } keys %seen;
}

# Tested both ways, because without heartbeats chance could pick the right one.
sub steered {
    my $what = shift;
    beats({ 2 => MANY, 3 => 0 }, "heartbeats are taken, $what");
    is(served('/app'), '2', "[D8] all requests go to 2, $what");
    beats({ 2 => 0, 3 => MANY }, "... the other way round, $what");
    is(served('/app'), '3', "[D8] ... all to 3, $what");
    return;
}

sub config_text {
    my $max    = shift;
    my $listen = SlotmemServer->free_port;
    my $config = <<"EOT";
HeartbeatListen 127.0.0.1:$listen
HeartbeatMaxServers $max
HeartbeatStorage hb.dat
<Location /hb>
    SetHandler heartbeat
</Location>
EOT
    my %path = (app => [2, 3], late => [LATE]);
    for my $name (sort keys %path) {
        my $members = join '',
            map { "BalancerMember http://127.0.0.$_:$port\n" }
            @{ $path{$name} };
        $config .= <<"EOT";
<Proxy balancer://$name>
    ${members}ProxySet lbmethod=heartbeat
</Proxy>
ProxyPass /$name balancer://$name
EOT
    }
    return $config;
}

for my $max (SLOTS, 0) {
    my $mode = $max ? 'shared memory' : 'a file';
    $server = SlotmemServer->new(
        config    => config_text($max),
        testmod   => 0,
        log_level => 'notice slotmem_shm:debug lbmethod_heartbeat:info',
        modules   => [qw(watchdog heartmonitor proxy proxy_http
            proxy_balancer lbmethod_heartbeat)]
    );
    $server->start;
    for my $how ('start', 'graceful', 'restart') {
        if ($how ne 'start') {
            $server->log_mark;
            $server->$how;
            is($server->log_count(qr/AH02283/), $max ? 1 : 0,
                "[D2] mod_lbmethod_heartbeat attaches the table, $mode: $how");
            is(served('/app'), '503', "[B1] $how: no heartbeat is known")
                if $max;
        }
        steered("$mode: $how");
    }

    # More servers than slots. mod_heartmonitor ignores the failure of grab.
    beats({ map { $_ => MANY } 4 .. LATE },
        "[D6] heartbeats of more than @{[SLOTS]} servers are taken, $mode");
    is(served('/app'), '3',
        "[D5][D6] ... and those that have a slot keep it, $mode");
    is(served('/late'), $max ? '503' : LATE,
        $max ? '[D6] ... the last one has none, and gets no requests'
        : '... the last one gets requests: a file has no limit');
    steered("$mode, with more servers than slots");
    $server->stop;
    unlike($server->log, qr/exit signal|seg fault|core dump|AH0005[12]|abort/i,
        "no process has crashed, $mode");
}

done_testing;
