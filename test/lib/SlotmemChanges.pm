# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Many balancers on one server: their configuration, the changes that an
# operator makes, and what can be observed.  They share each restart, so that
# tests of many changes stay fast; requests use plain sockets for the same
# reason.
#
#   my $c = SlotmemChanges->new($server, { a => $url, b => $url });
#   $c->balancer('app', members => ['a loadfactor=2', 'b'], growth => 2,
#       params => 'lbmethod=bytraffic');          # lines of configuration
#   my $seen = $c->observe($port);                # by balancer's name:
#       # nonce segment slots used sticky failover timeout attempts lbmethod
#       # workers => [{ name init status factor route redirect lbset elected
#       #   busy timeout max }], status without Init and Ok; name is that of the
#       #   backend, or the URL if no backend has it
#   $c->change($seen, 'app', 'drain a', 'factor b 3', 'add x');
#       # %SlotmemChanges::change lists the changes
#   $c->ask($port, '/app'): the backend's name, or the HTTP status
#   $c->path($seen->{app}): the persisted file of its members
#   SlotmemChanges::plain($seen->{app}): one line of text per worker, in order
#       and without defaults: "a", "b Drn f=3 route=r1 lbset=1"
#   SlotmemChanges::serving($seen->{app}): names of those that get requests

package SlotmemChanges;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;

# Maps the operator's word to the manager's form; $w is the worker's URL.
our %change = (
    add        => sub { (b_nwrkr => $_[0], b_wyes => 1) },
    drain      => sub { (w => $_[0], w_status_N => 1) },
    undrain    => sub { (w => $_[0], w_status_N => 0) },
    disable    => sub { (w => $_[0], w_status_D => 1) },
    enable     => sub { (w => $_[0], w_status_D => 0) },
    standby    => sub { (w => $_[0], w_status_H => 1) },
    unstandby  => sub { (w => $_[0], w_status_H => 0) },
    spare      => sub { (w => $_[0], w_status_R => 1) },
    ignore     => sub { (w => $_[0], w_status_I => 1) },
    hcfail     => sub { (w => $_[0], w_status_C => 1) },
    halt       => sub { (w => $_[0], w_status_S => 1) },
    factor     => sub { (w => $_[0], w_lf => $_[1]) },
    route      => sub { (w => $_[0], w_wr => $_[1]) },
    redirect   => sub { (w => $_[0], w_rr => $_[1]) },
    lbset      => sub { (w => $_[0], w_ls => $_[1]) },
    hcmethod   => sub { (w => $_[0], w_hm => $_[1]) },
    hcinterval => sub { (w => $_[0], w_hi => $_[1]) },
    hcpasses   => sub { (w => $_[0], w_hp => $_[1]) },
    hcfails    => sub { (w => $_[0], w_hf => $_[1]) },
    hcuri      => sub { (w => $_[0], w_hu => $_[1]) },
    lbmethod   => sub { (b_lbm => $_[0]) },
    sticky     => sub { (b_ss => $_[0]) },
    timeout    => sub { (b_tmo => $_[0]) },
    attempts   => sub { (b_max => $_[0]) },
    nofailover => sub { (b_sforce => $_[0]) },
);

sub new {
    my ($class, $server, $url) = @_;
    return bless {
        server => $server,
        url    => $url,
        name   => { reverse %$url }
    }, $class;
}

# ---- the configuration ----

sub member {
    my ($self, $text) = @_;
    my ($name, $rest) = $text =~ /^(\S+)(.*)$/;
    my $url = $self->{url}{$name} or die "no backend $name\n";
    return "    BalancerMember $url$rest\n";
}

sub balancer {
    my ($self, $name, %of) = @_;
    my $lines = join '', map { $self->member($_) } @{ $of{members} };
    $lines .= "    ProxySet growth=$of{growth}\n" if defined $of{growth};
    $lines .= "    ProxySet $of{params}\n" if $of{params};
    return <<"EOT";
<Proxy balancer://$name>
$lines</Proxy>
ProxyPass /$name balancer://$name
EOT
}

# ---- requests ----

# Status and body; status 0 if there is no answer.
sub http {
    my ($port, $head, $body) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $port,
        Timeout  => 20
    ) or return (0, "connect: $!");
    my $text = "$head HTTP/1.0\r\nHost: 127.0.0.1:$port\r\n"
        . "Referer: http://127.0.0.1:$port/\r\n";
    $text .= "Content-Type: application/x-www-form-urlencoded\r\n"
        . 'Content-Length: ' . length($body) . "\r\n"
        if defined $body;
    $text .= "\r\n" . ($body // '');
    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, $text or return (0, "send: $!");
    my ($answer, $reading) = ('', IO::Select->new($socket));
    while ($reading->can_read(20)) {
        my $got = sysread $socket, $answer, 65536, length $answer;
        return (0, "receive: $!") if !defined $got;
        next if $got;
        $answer =~ s{^HTTP/1\.[01] (\d+).*?\r\n\r\n}{}s
            or return (0, 'no answer');
        return ($1, $answer);
    }
    return (0, 'no answer in 20 s');
}

sub ask {
    my ($self, $port, $path) = @_;
    my ($status, $body) = http($port, "GET $path");
    return $status == 200 ? $body =~ s/\s+$//r : $status;
}

# ---- the balancer-manager ----

sub page {
    my ($port, $query, $body) = @_;
    my $method = defined $body ? 'POST' : 'GET';
    my ($status, $page) = http($port, "$method /balancer-manager$query", $body);
    die "balancer-manager of port $port: $status $page\n" if $status != 200;
    return $page;
}

# The tables contain what the XML lacks, and vice versa.
sub observe {
    my ($self, $port) = @_;
    my %seen;
    my ($order, $html) = (0, page($port, ''));
    for my $part (split /<h3>/, $html) {
        my ($nonce, $name, $segment) = $part =~
            m{nonce=([^"']*)["'][^>]*>balancer://([^<]+)</a> \[(\S*?)\]}
            or next;
        my ($settings, $workers) = $part =~ m{(<table>.*?</table>)}sg;
        my @cell = $settings =~ m{<td>\s*(.*?)\s*</td>}sg;
        $seen{$name} = {
            port  => $port, name => $name, nonce => $nonce,
            segment => $segment, order => $order++
        };
        @{ $seen{$name} }{qw(slots used)} = $cell[0] =~ /(\d+) \[(\d+) Used/;
        @{ $seen{$name} }{qw(sticky failover timeout attempts lbmethod)} =
            @cell[1 .. 5];
        $seen{$name}{health} = [map {
            my @text = m{<td>(.*?)</td>}sg;
            join ' ', map { $_ // '' } @text[11 .. $#text];
        } ($workers // '') =~ m{<tr>\s*(<td>.*?)</tr>}sg];
    }
    my $xml = page($port, '?xml=1');
    while ($xml =~ m{<httpd:balancer>(.*?)</httpd:balancer>}sg) {
        my ($head, @workers) = split /<httpd:worker>/, $1;
        my ($name) = $head =~ m{<httpd:name>balancer://(.*?)</httpd:name>};
        my $health = $seen{$name}{health};
        $seen{$name}{workers} =
            [map { $self->worker($_, shift @$health) } @workers];
    }
    return \%seen;
}

sub worker {
    my ($self, $text, $health) = @_;
    my %field = $text =~ m{<httpd:(\w+)>(.*?)</httpd:}g;
    my $init = $field{status} =~ s/^Init // ? 1 : 0;
    $field{status} =~ s/\s*(?:\bOk\b)?\s*$//;
    return {
        name   => $self->{name}{ $field{name} } // $field{name},
        init   => $init,
        factor => $field{loadfactor} + 0,
        health => $health,
        map { $_ => $field{$_} // '' }
            qw(status route redirect lbset elected busy timeout max)
    };
}

# "add" also enables the worker; "add-disabled" does not.
sub change {
    my ($self, $seen, $balancer, @changes) = @_;
    my $of = $seen->{$balancer} or die "no balancer://$balancer\n";
    for my $text (@changes) {
        my ($what, @args) = split ' ', $text;
        $args[0] = $self->{url}{ $args[0] } // $args[0];
        $args[0] =~ s/^unix:[^|]*\|//;
        if ($what eq 'add') {
            $self->form($of, $change{add}->(@args));
            $what = 'enable';
        }
        $what = 'add' if $what eq 'add-disabled';
        $self->form($of, ($change{$what} or die "change: $text\n")->(@args));
    }
    return;
}

sub form {
    my ($self, $of, %form) = @_;
    my %all = (%form, b => $of->{name}, nonce => $of->{nonce});
    page($of->{port}, '', join '&', map {
        my $value = $all{$_} =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ger;
        "$_=$value";
    } sort keys %all);
    return;
}

sub path {
    my ($self, $of) = @_;
    return $self->{server}->rundir
        . "/slotmem-shm-$of->{segment}.shm.persist";
}

# ---- observations as text ----

sub plain {
    my $of = shift;
    return map {
        join ' ', $_->{name}, ($_->{init} ? () : 'not-Init'),
            ($_->{status} || ()),
            ($_->{factor} != 1 ? "f=$_->{factor}" : ()),
            ($_->{route} ne '' ? "route=$_->{route}" : ()),
            ($_->{redirect} ne '' ? "redirect=$_->{redirect}" : ()),
            ($_->{lbset} ? "lbset=$_->{lbset}" : ()),
            ($_->{timeout} ? "timeout=$_->{timeout}" : ())
    } @{ $of->{workers} };
}

# The workers of the lowest set that has usable ones: those that are in order,
# and a spare for each one that is not; otherwise its standbys.
sub serving {
    my $of = shift;
    my %set;
    push @{ $set{ $_->{lbset} } }, $_ for @{ $of->{workers} };
    for my $set (sort { $a <=> $b } keys %set) {
        my (@main, @spare, @standby);
        my $missing = 0;
        for my $worker (@{ $set{$set} }) {
            my $status = $worker->{status};
            my $out = $status =~ /Dis|Stop|Err|HcFl/;
            my $kind = $status =~ /Spar/ ? \@spare
                : $status =~ /Stby/ ? \@standby : \@main;
            $missing++ if $out && $kind == \@main;
            push @$kind, $worker if !$out && $status !~ /Drn/;
        }
        my @serving = (@main, splice @spare, 0, $missing);
        @serving = @standby if !@serving;
        return @serving if @serving;
    }
    return ();
}

1;
