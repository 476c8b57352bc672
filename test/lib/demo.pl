# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# The steps that test/demo shows.

use strict;
use warnings;

use File::Basename qw(basename);
use SlotmemBalancer;

$| = 1;
$SIG{PIPE} = sub { exit 1 };    # so that "test/demo | head" cleans up too
my $serve = @ARGV && $ARGV[0] eq '--serve';
if ($serve) {
    $SIG{$_} = sub { print "\nStopped; nothing is left behind.\n"; exit 0 }
        for qw(INT TERM HUP);
}

my @configured = qw(red green blue);
my $backends   = SlotmemBackends->new(@configured, 'gold');
my %url        = map { $_ => $backends->url($_) } @configured, 'gold';
my %name       = reverse %url;

my $members = join '', map { "    BalancerMember $url{$_}\n" } @configured;
my $server  = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)],
    config  => <<"EOT");
BalancerPersist On
<Proxy balancer://shop>
$members    ProxySet growth=2
</Proxy>
ProxyPass /shop balancer://shop
ProxyStatus Full
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
<Location /slotmem-status>
    SetHandler slotmem-status
</Location>
EOT
my $manager  = SlotmemBalancer->new($server);
my $requests = 30;

# ---- output ----

my $step = 0;

sub title {
    my $text = shift;
    printf "\n%d. %s\n\n", ++$step, $text;
    return;
}

sub children { return join ' ', sort { $a <=> $b } $server->children }

# Prints the table of workers and returns it for comparison.
sub show {
    my $served = $manager->served('/shop', $requests);
    my @lines  = map {
        my $name   = $name{ $_->{url} };
        my $status = $_->{status} =~ /Drn/ ? 'drained' : 'ok';
        $status = 'disabled' if $_->{status} =~ /Dis/;
        sprintf "   %-8s %-9s %6g %8d of %d\n", $name, $status,
            $_->{factor}, $served->{$name} // 0, $requests;
    } $manager->workers('shop');
    printf "   %-8s %-9s %6s %14s\n", qw(worker status factor served);
    print @lines;
    return join '', @lines;
}

my $set;
my $failed = 0;

sub same {
    my ($found, $when) = @_;
    my $ok = $found eq $set;
    $failed++ if !$ok;
    print $ok
        ? "   => everything is as it was set\n"
        : "   => FAILED: this is not what was set before\n";
    return;
}

sub show_file {
    my ($path, $slots) = @_;
    my $file     = $manager->stored($path, $slots);
    my %in_use   = map { $_ => 1 } @{ $file->{used} };
    my %run_time = map { $_ => 1 } @{ $file->{claims} };
    printf "   %s: %d bytes, %d slots of %d\n\n", basename($path), -s $path,
        @$file{qw(num size)};
    printf "   %-8s %4s %8s %8s %10s\n", 'worker', 'slot', 'offset', 'in use',
        'run time';
    for my $name (@configured, 'gold') {
        my $id = $file->{slot_of}{ $url{$name} }
            // die "demo: $name is not in the file\n";
        printf "   %-8s %4d %8d %8d %10d\n", $name, $id,
            8 + $id * $file->{size}, $in_use{$id} // 0, $run_time{$id} // 0;
    }
    return;
}

# ---- the steps ----

print "mod_slotmem_shm keeps what you set in the balancer-manager\n";
$server->start;
printf "A private httpd on 127.0.0.1 (%s, children %s) with a balancer\n"
    . "of three workers, BalancerPersist On, and room for two more.\n",
    $server->mpm, children();

title('As configured');
show();

title('Set in the balancer-manager: red drained, green x 3, gold added');
$manager->drain('shop', $url{red});
$manager->set_factor('shop', $url{green}, 3);
$manager->add_worker('shop', $url{gold});
$manager->enable('shop', $url{gold});
my $path = $manager->file('shop');
my ($slots) = $manager->slots('shop');
$set = show();

$server->graceful;
title('After a graceful restart: new children ' . children()
        . ', new memory');
same(show());

$server->stop;
title('After stop no process is left: the state is in the persisted file');
show_file($path, $slots);
print <<'EOT';

   In a stored file no slot is in use: the next start claims red, green and
   blue again by their addresses. gold is not in the configuration, so a
   run-time claim keeps its slot, and no other worker gets it.
EOT

$server->start;
title('After start: children ' . children());
same(show());

if ($failed) {
    print "\nFAILED: the state did not survive. The error log:\n",
        $server->log_tail;
    exit 1;
}
print "\nEverything that was set is still there. ";
if (!$serve) {
    print "Try it by hand: test/demo --serve\n";
    exit 0;
}
print "Now try it by hand:\n\n";
my @tries = (
    [$server->url('/balancer-manager'),  'drain, add, change'],
    [$server->url('/server-status'),     'server status, with the slots'],
    [$server->url('/slotmem-status'),    'the status of the slots as JSON'],
    [$server->url('/slotmem-status?metrics'), 'for Prometheus'],
    [$server->url('/shop'),              'who answers?'],
    ['kill -USR1 ' . $server->parent,    'graceful restart; -HUP: a hard one'],
    [$server->rundir,                    'the persisted files'],
);
printf "   %-46s %s\n", @$_ for @tries;
print "\nCtrl-C stops it.\n";
sleep 1 while $server->processes;
die "demo: the server has ended. The error log:\n", $server->log_tail;
