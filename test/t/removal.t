# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# slotmem-file asks a running server to remove workers at its next restart: from
# the file and from memory; and requests that are not followed.

use strict;
use warnings;

use SlotmemBalancer;
use Test::More;

my $tool = $ENV{SLOTMEM_FILE} // '';
plan skip_all => 'the command is missing: SLOTMEM_FILE' if !-x $tool;

my @names    = qw(a b x y z);
my $backends = SlotmemBackends->new(@names);
my %url      = map { $_ => $backends->url($_) } @names;
my %name     = reverse %url;
my $server   = SlotmemServer->new(
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)]
);
my $manager = SlotmemBalancer->new($server);

sub config {
    my $members = join '', map {"    BalancerMember $url{$_}\n"} @_;
    return <<"EOT";
BalancerPersist On
SlotmemTest post_config hurry ms=20
SlotmemCheckpointInterval 1
SlotmemPersistDir "\${ROOT}/state"
<Proxy balancer://app>
$members    ProxySet growth=6
</Proxy>
ProxyPass /app balancer://app
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
}

# The output and exit code of the command.
sub tool {
    my $line = join ' ', map {"'$_'"} @_;
    my $out = `'$tool' $line 2>&1`;
    return ($out, $? >> 8);
}

sub workers_are {
    my ($name, @expected) = @_;
    return is(join(' ', sort map { $name{ $_->{url} } }
            $manager->workers('app')), "@expected", $name);
}

sub wait_stored {
    my ($path, @workers) = @_;
    return $server->wait_until("@workers in $path", sub {
        my ($out) = tool('workers', $path);
        return !grep { $out !~ /\Q$url{$_}\E .*run time/ } @workers;
    });
}

sub spew {
    my ($path, $text) = @_;
    open my $out, '>', $path or die "$path: $!";
    print {$out} $text;
    close $out or die $!;
    return chmod 0600, $path;
}

$server->config(config(qw(a b)));
$server->start;
my $state = $server->root . '/state';
my $path  = "$state/slotmem-shm-" . $manager->segment('app') . '.shm.persist';
my $asked = "$path.remove";
for my $added (qw(x y z)) {
    $manager->add_enabled('app', $url{$added});
}
wait_stored($path, qw(x y z));

# ---- requested while the server runs ----

my ($out, $code) = tool('remove', '--worker', $url{x}, $path);
is($code, 0, 'a removal is requested');
is(sprintf('%o', (stat $asked)[2] & 07777), '600', '[E8] ... in a file of 0600');
workers_are('... and has no effect yet', qw(a b x y z));
is((tool('remove', '--worker', $url{a}, $path))[1], 1,
    'a configured worker cannot be removed');
is((tool('remove', '--worker', $url{z}, $path))[1], 0, 'another one');
is((tool('remove', '--cancel', '--worker', $url{z}, $path))[1], 0,
    '... which is withdrawn');
($out) = tool('remove', '--list', $path);
is($out, "$path: the next restart will leave out $url{x}\n", '... one is left');

$server->configtest;
ok(-f $asked, '[B10] a test of the configuration keeps it');
$server->log_mark;
$server->graceful;
workers_are('[E2] a graceful restart leaves the worker out', qw(a b y z));
is($server->log_has('SLOTMEM-55', 'notice', $asked, $url{x}), 1,
    '... and logs it');
$server->wait_until('the first store', sub { !-e $asked });
pass('... and the first store removes the request');
ok(-f "$path.bak", '[E6] ... and keeps the old file');
like((tool('workers', "$path.bak"))[0], qr/\Q$url{x}\E/, '... it has');
$server->stop;
$server->start;
workers_are('... and it does not come back', qw(a b y z));

# ---- a failed start ----

tool('remove', '--worker', $url{y}, $path);
my $before = SlotmemServer::slurp($asked);
$server->stop;
$server->config(config(qw(a b)) . "Listen 127.0.0.1:1x\n");
ok($server->start_fails, 'a start that fails');
is(SlotmemServer::slurp($asked), $before, '[B10] ... keeps the request');
$server->config(config(qw(a b)));
$server->start;
workers_are('... which the next start applies', qw(a b z));
$server->wait_until('the first store', sub { !-e $asked });

# ---- from memory ----

$manager->add_enabled('app', $url{x});
wait_stored($path, 'x');
tool('remove', '--worker', $url{x}, $path);
chmod 0555, $state or die $!;
$manager->set_factor('app', $url{a}, 7);
$server->log_mark;
$server->graceful;
is($server->log_has('SLOTMEM-30', 'info', $path), 1,
    '[B12] a restart that could not store');
workers_are('[B12] ... leaves the worker out of the state in memory',
    qw(a b z));
ok(-f $asked, '... and the request stays until a store succeeds');
chmod 0700, $state or die $!;
$server->wait_until('a store', sub { !-e $asked });
unlike((tool('workers', $path))[0], qr/\Q$url{x}\E/,
    '... and the worker is gone from the file then');

# ---- requests that are not followed ----

tool('remove', '--worker', $url{z}, $path);
my $good = SlotmemServer::slurp($asked);
my $id   = ($good =~ /^(\w{32}) /m)[0];
my %bad  = (
    'lines of another kind' => sub { spew($asked, "rm -rf /\n") },
    'a line without an end' => sub { spew($asked, substr $good, 0, -1) },
    'control characters'    =>
        sub { spew($asked, "slotmem-removal 1\n$id http://\e[2J\n") },
    'a mode that lets others read' =>
        sub { spew($asked, $good); chmod 0644, $asked },
    'a second link'     =>
        sub { spew("$asked.1", $good); link "$asked.1", $asked },
    'a symbolic link' =>
        sub { spew("$asked.1", $good); symlink "$asked.1", $asked },
    'a directory' => sub { mkdir $asked },
);
for my $what (sort keys %bad) {
    unlink $asked, "$asked.1";
    $bad{$what}->();
    $server->log_mark;
    $server->graceful;
    is($server->log_has('SLOTMEM-57', 'warn', $asked), 1,
        "[E8] $what: said");
    workers_are("... not followed", qw(a b z));
    ok(-e $asked || -l $asked, '... and is not removed');
    rmdir $asked;
}
unlink $asked, "$asked.1";

# ---- configured by then ----

spew($asked, $good . ('0' x 32) . " http://nobody/\n");
$server->config(config(qw(a b z)));
$server->log_mark;
$server->graceful;
workers_are('a worker that has been configured stays', qw(a b z));
is($server->log_has('SLOTMEM-56', 'notice', $url{z}, $asked), 1,
    '... and that is logged');
is($server->log_has('SLOTMEM-56', 'notice', 'http://nobody/', $asked),
    1, '... and so is a worker that does not exist');
$server->wait_until('the first store', sub { !-e $asked });
$server->stop;

done_testing();
