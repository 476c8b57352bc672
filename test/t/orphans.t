# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Files that belong to no segment: the log lines about them, the commands of
# slotmem-file for them, and a virtual host that keeps its state after a change
# of its name.

use strict;
use warnings;

use SlotmemBalancer;
use Test::More;

my $tool = $ENV{SLOTMEM_FILE} // '';
plan skip_all => 'the command is missing: SLOTMEM_FILE' if !-x $tool;

my $backends = SlotmemBackends->new(qw(a b x));
my %url      = map { $_ => $backends->url($_) } qw(a b x);
my $port     = SlotmemServer->free_port;
my @modules  = qw(proxy proxy_http proxy_balancer lbmethod_byrequests);
my $server   = SlotmemServer->new(testmod => 0, modules => \@modules);
my $state    = $server->root . '/state';
my $manager =
    SlotmemBalancer->new($server, url => "http://127.0.0.1:$port");

sub config {
    my ($name, $balancer, $port_of_host) = @_;
    $port_of_host ||= $port;
    return <<"EOT";
SlotmemCheckpointInterval 1
SlotmemPersistDir "$state"
<Location /slotmem-status>
    SetHandler slotmem-status
</Location>
Listen 127.0.0.1:$port_of_host
<VirtualHost 127.0.0.1:$port_of_host>
    ServerName $name
    BalancerPersist On
    <Proxy balancer://$balancer>
        BalancerMember $url{a}
        BalancerMember $url{b}
        ProxySet growth=3
    </Proxy>
    ProxyPass /app balancer://$balancer
    <Location /balancer-manager>
        SetHandler balancer-manager
    </Location>
</VirtualHost>
EOT
}

sub tool {
    my $line = join ' ', map {"'$_'"} @_;
    my $out = `'$tool' $line 2>&1 </dev/null`;
    return ($out, $? >> 8);
}

sub orphans {
    my ($out) = tool('orphans', $state);
    return join ' ', map { s{^\Q$state\E/}{}r } map { (split)[0] } split /\n/,
        $out;
}

sub files { return join ' ', sort map { s{.*/}{}r } glob "$state/*" }

sub start_with {
    $server->config(config(@_));
    $server->log_mark;
    return $server->start;
}

sub file_of {
    return "$state/slotmem-shm-" . $manager->segment(shift) . '.shm.persist';
}

start_with('one.example', 'app');
my $old = file_of('app');
(my $old_host = $old) =~ s/_app\.shm/.shm/;
$manager->drain('app', $url{a});
$manager->add_enabled('app', $url{x});
my @table = $manager->table('app');
$server->stop;
is(orphans(), '', 'a stopped server has no orphans');
is($server->log_has('SLOTMEM-58', '*'), 0, '... and the log reports none');

# ---- a virtual host is renamed ----

start_with('two.example', 'app');
my $new = file_of('app');
(my $new_host = $new) =~ s/_app\.shm/.shm/;
isnt($new, $old, 'another ServerName makes another name');
is($server->log_has('SLOTMEM-58', 'notice', $state), 1,
    'a start reports the files of no segment');
like(($server->log_lines('SLOTMEM-58', 'notice'))[0] // '', qr/has 2 files/,
    '... how many');
my %form = (
    '/server-status?auto'     => qr/^ModSlotmemOrphans: 2$/m,
    '/slotmem-status'         => qr/"orphans": 2,/,
    '/slotmem-status?metrics' => qr/^slotmem_orphans 2$/m,
    '/server-status'          => qr/\. 2 files belonged to no segment/
);
like($server->get($_)->content, $form{$_}, "... and so does $_")
    for sort keys %form;
is($server->log_has('SLOTMEM-59', 'notice', $_->[0], $_->[1]), 1,
    "... and what to do with $_->[0]")
    for [$old, $new], [$old_host, $new_host];
$server->log_mark;
$server->graceful;
$server->wait_until('a list of names', sub { orphans() });
is(orphans(), join(' ', map { s{.*/}{}r } sort $old, $old_host),
    'the command reports the same');
my ($out) = tool('orphans', $state);
like($out, qr{^\Q$old\E  \d+s  3 workers of balancer://app, 1 of them added at }m,
    '... and their content');
($out, my $code) = tool('adopt', $old, $new);
is($code, 2, 'while the server runs nothing is adopted');
like($out, qr/a server, process \d+, stores it/, '... with the reason');
$server->stop;
my @lines = $server->log_lines('SLOTMEM-59', 'notice');
my @commands = map { /run: slotmem-file adopt (\S+) (\S+)/ ? [$1, $2] : () }
    @lines;
is((tool('adopt', @$_))[1], 0, "adopt @$_")
    for [$old, $new], [$old_host, $new_host];
ok(-f "$new.bak", '... the old content of the new name is kept');
start_with('two.example', 'app');
is_deeply([$manager->table('app')], \@table,
    '[E6] the renamed virtual host has its state');
is(file_of('app'), $new, '[E7] ... under its own name');
$server->stop;

# ---- a balancer is renamed ----

my $before = $new;
start_with('two.example', 'other');
my $other = file_of('other');
is($server->log_has('SLOTMEM-59', 'notice', $before, $other), 0,
    'a balancer with another name: nothing is suggested');
$server->stop;
is((tool('adopt', $before, $other))[1], 0, '... but adopt works');
start_with('two.example', 'other');
is_deeply([$manager->table('other')], \@table, '[E6] ... and has its state');
$server->stop;

# ---- two servers in one directory ----

my $port_of_second = SlotmemServer->free_port;
my $second = SlotmemServer->new(testmod => 0, modules => \@modules);
$second->config(config('second.example', 'app', $port_of_second));
$second->start;
$second->stop;
is(orphans() =~ s/\S+\.bak ?//gr, '',
    'files of two servers that share a directory');
ok($second->log_has('SLOTMEM-58', '*') <= 1, '... are both known');
$server->log_mark;
$server->start;
my $kept = () = files() =~ /\.bak\b/g;
like(($server->log_lines('SLOTMEM-58', 'notice'))[0] // '',
    qr/has $kept files/, '... also to a start of the first');
$server->stop;

# ---- what killed processes have left ----

my $hour_ago = time - 3600;
for my $left (map({ $other . $_ } qw(.tmp-1 .remove.tmp-1)),
    map({"$state/gone.persist$_"} '', qw(.tmp-1 .remove .remove.tmp-1)),
    "$state/slotmem-shm-1.names.tmp-1")
{
    open my $out, '>', $left or die "$left: $!";
    close $out or die "$left: $!";
    utime $hour_ago, $hour_ago, $left;
}
mkdir "$state/directory.persist" or die $!;
$server->log_mark;
$server->start;
my ($counted) = (($server->log_lines('SLOTMEM-58', 'notice'))[0] // '')
    =~ /has (\d+) files/;
is($counted, $kept + 6, 'leftovers are counted');
is(scalar(split ' ', orphans()), $counted, '... as the command counts them');
$server->stop;
rmdir "$state/directory.persist" or die $!;

# ---- removing them ----

start_with('three.example', 'app');
$server->stop;
my $all   = files();
my @names = split ' ', orphans();
ok(@names > 2, 'there are orphans');
($out, $code) = tool('orphans', '--remove', $state);
is($code, 1, 'without a confirmation');
is(files(), $all, '... and nothing is removed');
($out, $code) = tool('orphans', '--remove', '--yes', $state);
is($code, 0, 'they are removed') or diag($out);
my %gone = map { $_ => 1 } @names;
is(files(), join(' ', grep { !$gone{$_} } split ' ', $all),
    '... and nothing else');
is(orphans(), '', '... no orphan is left');

# ---- files of a running server that has not listed them ----

$server->start;
my ($mine) = file_of('app') =~ m{([^/]+)$};
for my $list (grep { SlotmemServer::slurp($_) =~ /\Q$mine\E/ }
    glob "$state/*.names")
{
    open my $out, '>', $list or die "$list: $!";
    print {$out} "slotmem-names 1\n";
    close $out or die "$list: $!";
}
is(orphans(), '', '[E9] a file is not an orphan while a server holds its lock');
$server->stop;
is(orphans(), '', '... nor after it stops: it has written a new list');

# ---- without a list ----

rename $_, "$_.away" for glob "$state/*.names";
($out, $code) = tool('orphans', '--remove', '--yes', $state);
is($code, 2, 'without a list of names nothing is removed');
like($out, qr/not known which of them are orphans/, '... with the reason');
done_testing();
