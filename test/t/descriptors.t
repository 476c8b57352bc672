# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Only the parent and the storing process have descriptors of the module
# (contract, B11).

use strict;
use warnings;

use IO::Socket::UNIX;
use SlotmemApi;
use SlotmemDisk;
use SlotmemServer;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the module has no SlotmemCheckpointInterval'
    if !SlotmemServer->has_directive('SlotmemCheckpointInterval');

my @names = map { "seg$_" } 1 .. 4;
my $ours  = qr/slotmem-shm-(?:seg\d|[^\/]*persist)|slotmem-shm\.lock/;

my $s    = SlotmemServer->new(timeout => 30, modules => [qw(alias cgid)]);
my $api  = SlotmemApi->new($s);
my $disk = SlotmemDisk->new($s);
my $root = $s->root;
my $logger = "$root/logger";

my %stored;     # pids

# A piped logger that keeps running, and a program that lists its open files and
# those of the daemon that started it.
for my $program ([$logger, 'exec cat >/dev/null'], ["$root/list", <<'EOT']) {
printf 'Content-Type: text/plain\r\n\r\n'
ls -l /proc/self/fd /proc/$$/fd
EOT
    open my $out, '>', $program->[0] or die $!;
    print {$out} "#!/bin/sh\n$program->[1]\n";
    close $out or die $!;
    chmod 0755, $program->[0] or die $!;
}
$s->config(join '', "SlotmemCheckpointInterval 1\n",
    "SlotmemTest post_config hurry ms=20\n",
    "ScriptSock cgid\nScriptAlias /list $root/list\n",
    "<Directory $root>\nRequire all granted\n</Directory>\n",
    "TransferLog \"|$logger\"\n", "SlotmemTest post_config notify\n",
    map {
        "SlotmemTest post_config create name=$_ size=16 num=4 type=persist\n"
    } @names);

# Listens as systemd does, for the notifications of a server.
my $notified = IO::Socket::UNIX->new(
    Type     => SOCK_DGRAM,
    Local    => "$root/notify",
    Blocking => 0
) or die "$root/notify: $!";
$ENV{NOTIFY_SOCKET} = "$root/notify";
my @told;       # [state, pid] from any process

sub read_told {
    while (defined $notified->recv(my $text, 64)) {
        push @told, [$1, $2] if $text =~ /^(\w+)=1 (\d+)$/;
    }
    return;
}

sub descendants {
    my %parent;
    for my $pid (map { m{(\d+)} } glob '/proc/[0-9]*') {
        ($parent{$pid}) =
            SlotmemServer::slurp("/proc/$pid/stat") =~ /\) \S (\d+) /;
    }
    my %found = ($s->parent => 1);
    my $more;
    do {
        $more = 0;
        for my $pid (keys %parent) {
            next if $found{$pid} || !$found{ $parent{$pid} // '' };
            $found{$pid} = $more = 1;
        }
    } while $more;
    return keys %found;
}

sub name_of {
    my $pid = shift;
    return SlotmemServer::slurp("/proc/$pid/comm") =~ s/\s//gr;
}

# Checks all processes while a store hangs.
sub look {
    my $when = shift;
    my %storing = map { $_ => 1 } $disk->storing;
    %stored = (%stored, %storing);
    my %seen;
    my @found;
    for my $pid (descendants()) {
        next if $storing{$pid} || $pid == $s->parent;
        $seen{ name_of($pid) }++;
        push @found, map { name_of($pid) . ": $_" }
            grep {/$ours/} SlotmemDisk::files_of($pid);
    }
    is(join('; ', @found), '', "[B11] $when: no child has one of our files");
    cmp_ok($seen{cat} // 0, '>', 0, '... a piped logger is one of them');
    cmp_ok(scalar(keys %seen), '>', 1, '... and httpd\'s own');
    my $list = $s->get('/list')->content;
    like($list, qr/pipe:|socket:/, '... a CGI program answers');
    unlike($list, $ours, "[B11] $when: it has none of our files");
    my $parent = $s->parent;
    my @mine = grep { /$ours/ } SlotmemDisk::files_of($parent);
    is(join(' ', grep { !/slotmem-shm\.lock$/ } @mine), '',
        "[B11] $when: the parent has only a lock file");
    for my $fd (grep { (readlink) =~ $ours } grep { -l } glob
        "/proc/$parent/fd/*") {
        my ($flags) = SlotmemServer::slurp($fd =~ s/fd/fdinfo/r)
            =~ /^flags:\s+(\d+)/m;
        ok(oct($flags) & 02000000, '[B11] ... which is close-on-exec');
    }
    return;
}

$disk->start;
look('after the start');
for my $how (qw(graceful restart)) {
    $disk->set(hold => '');
    $api->run(map { ("put name=$_ id=1 len=16 data=$how") } @names);
    $s->wait_until('a store', sub { $disk->storing });
    my ($storing) = $disk->storing;
    $s->wait_until('its files', sub {
        1 == grep {/persist\.tmp/} SlotmemDisk::files_of($storing)
    });
    my %old = map { $_ => 1 } $disk->others;
    like(join(' ', SlotmemDisk::files_of($s->parent)), qr/socket/,
        'the parent has sockets');
    is(join(' ', grep {/socket/} SlotmemDisk::files_of($storing)), '',
        '[B11] the storing process has no socket');

    # The children that are forked now; the first one is mod_cgid's daemon.
    my (undef, @victims) = sort { $a <=> $b } $disk->others;
    kill 'KILL', @victims;
    $s->wait_until('another child', sub {
        grep { !$old{$_} && $_ != $s->parent } $disk->others
    });
    look("during a checkpoint, $how");

    # A restart, with a new daemon and logger.
    $s->$how;
    look("after $how, while its store hangs");
    $disk->well;
    $s->wait_until('the store', sub { !$disk->storing });
    read_told();
}
my $pid = $s->parent;
$s->stop;
read_told();
is(join(' ', map { $_->[0] } grep { $_->[1] == $pid } @told),
    join(' ', qw(READY STOPPING) x 3), 'the parent has reported its state');
is(join(' ', map { "@$_" } grep { $_->[1] != $pid } @told), '',
    '[B11] ... and no other process has, including those that stored');
cmp_ok(scalar(keys %stored), '>=', 4, '... at least four');
is(join(' ', grep { $stored{$_} } $s->log =~ /long lost .*\(pid (\d+)\)/g), '',
    'httpd knows each process that has stored');
unlike($s->log, qr/exit signal (?!Killed)/, 'no process has crashed');

done_testing;
