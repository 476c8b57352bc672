# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Many processes and threads use one segment, also while some are killed
# (contract, D10 and D11).

use strict;
use warnings;

use SlotmemApi;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep);

my $slots = 8;
my $s     = SlotmemServer->new(servers => 5, config => <<"EOT");
SlotmemTest post_config create name=storm size=64 num=$slots type=pregrab
SlotmemTest post_config create name=large size=16 num=5000 type=pregrab
SlotmemTest post_config create name=gate size=8 num=3
EOT
my $api = SlotmemApi->new($s);
$s->start;

sub touch {
    my $file = shift;
    open my $out, '>', $file or die "$file: $!";
    close $out;
    return;
}

# [D11] grab and release from all sides: six requests at a time.
sub storm {
    my ($name, $rounds, $clients) = @_;
    return $api->start(map { ["stress name=$name rounds=$rounds"] }
            1 .. $clients);
}

sub total {
    my %sum;
    for my $answer (map { $_->[0] } grep { $_ } @_) {
        $sum{$_} += $answer->{$_} for qw(grants twice lost errors);
        $sum{pids}{ $answer->{pid} } = 1;
    }
    $sum{processes} = keys %{ $sum{pids} };
    return \%sum;
}

sub is_sound {
    my ($sum, $what) = @_;
    is($sum->{twice}, 0, "[D11] $what: no id was granted twice");
    is($sum->{lost}, 0, "[D11] $what: nobody lost a slot");
    is($sum->{errors}, 0, "[D11] $what: each release and count was right");
    note("$what: $sum->{grants} grants in $sum->{processes} processes");
    return;
}

my $rounds = 300_000;
my $sum = total($api->finish(storm('storm', $rounds, 6)));
cmp_ok($sum->{processes}, '>', 1, 'several processes took part');
cmp_ok($sum->{grants}, '>', $rounds, 'there were many grants');
is_sound($sum, 'storm');
$api->check('info name=storm', { status => undef, free => $slots },
    '[D9][D11] all slots are free afterwards');
$sum = total($api->finish(storm('large', $rounds / 4, 6)));
is_sound($sum, 'many slots');
$api->check('info name=large', { status => undef, free => 5000 },
    '[D9][D11] ... and all are free');

# [D11] the same while children are killed: a slot that a killed child held
# stays in use, and nothing else is lost.
my $held_max = 0;
for my $round (1 .. 3) {
    my $until   = $s->root . "/until-$round";
    my $at      = $s->root . "/at-$round";
    my @clients = $api->start(
        ["stress name=storm rounds=9999999 until=$until at=$at"],
        map { ["stress name=storm rounds=9999999 until=$until"] } 2 .. 6);
    $s->wait_until('a request', sub { -s $at });
    sleep 0.02 + rand 0.1;
    kill 'KILL', SlotmemServer::slurp($at);
    sleep 0.02;
    touch($until);
    my @answers = $api->finish(@clients);
    $held_max += grep { !$_ } @answers;
    is_sound(total(@answers), "kill -9, round $round");
}
cmp_ok($held_max, '>', 0, 'some requests were killed');
my ($in_use, $info) = $api->run('doall name=storm', 'info name=storm');
my @held = split /,/, $in_use->{visited};
is($info->{free} + @held, $slots,
    '[D9][D11] the count agrees with the slots in use');
cmp_ok(scalar @held, '<=', $held_max,
    '[D11] no more are in use than the killed ones held');
$api->run(map { ("poke name=storm id=$_ len=64", "release name=storm id=$_") }
        @held)
    if @held;
$api->check('info name=storm', { status => undef, free => $slots },
    '[D9][D11] those can be released');

# fgrab, put, get and release of a client's own slots, in a segment and in words
# of the map where all others grab and release.
my @mixed = map {
    my $id = $_;
    ['stress name=large rounds=20000', "fgrab name=large id=$id",
        'stress name=large rounds=20000', "put name=large id=$id data=$id",
        'stress name=large rounds=20000', "get name=large id=$id",
        'stress name=large rounds=20000']
} 40 .. 45;
my @mix = $api->together(@mixed);
is(join(' ', map { $_->[5]{data} } @mix), '40 41 42 43 44 45',
    '[D11] fgrab, put and get from all sides');
($in_use, $info) = $api->run('doall name=large', 'info name=large');
is($in_use->{visited}, '40,41,42,43,44,45', '[D8][D11] they stay in use');
is($info->{free}, 5000 - 6, '[D9][D11] the count agrees');
is(join(' ', map { $_->{status} }
        $api->run(map { ("release name=large id=$_") } 40 .. 45)),
    join(' ', ('APR_SUCCESS') x 6), '[D7][D11] and they are released');

# [D10] while a consumer's callback waits, all others continue; no call waits
# for it. The wait would time out otherwise.
my $at   = $s->rundir . '/at';
my $gate = $s->rundir . '/open';
my ($client) = $api->start(
    ["doall name=gate stop=1 each=wait,max=8,file=$gate,at=$at"]);
$s->wait_until('the callback', sub { -e $at });
my @calls = (
    'grab name=gate', 'put name=gate id=0 data=x', 'get name=gate id=0',
    'dptr name=gate id=0', 'fgrab name=gate id=1', 'release name=gate id=1',
    'doall name=gate', 'info name=gate', 'attach name=gate',
    'create name=gate-other size=8 num=2', 'create name=none size=8 num=2',
    'create name=gate as=g size=8 num=3',
);
my @others = $api->together(map { [@calls] } 1 .. 4);
is(scalar(grep { $_ && @$_ == @calls } @others), 4,
    '[D10] while a callback waits, every call of others is answered');
touch($gate);
my ($wait) = $api->finish($client);
$api->same($wait->[0], {}, '[D10] ... before it continued');

unlike($s->log, qr/exit signal (?!Killed)/, 'no child has crashed');

done_testing;
