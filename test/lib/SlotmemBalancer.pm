# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# Uses the balancer-manager as a browser does: every change gets the page, takes
# the balancer's nonce from it, and posts with a Referer.
#
#   my $manager = SlotmemBalancer->new($server);      # a SlotmemServer
#   my $manager = SlotmemBalancer->new($server, url => 'http://127.0.0.1:99');
#       url: of another virtual host; the page is /balancer-manager there
#   $manager->workers('app'): { url, status, factor } of each, in order; the
#       status is as shown, such as "Init Drn Ok".  state: the same for all
#       balancers, by name.  table('app'): one line of text per worker.
#   $manager->set_worker('app', $url, w_lf => 3, w_status_N => 1);
#   $manager->drain('app', $url); disable, enable; set_factor('app', $url, 3)
#   $manager->add_worker('app', $url);        # disabled until enabled
#   $manager->configure('app', 2, @urls): configures a server with this balancer
#       only, with growth=2 and these members; requests for /app go there.
#       Calls log_mark.
#   $manager->add_enabled('app', $url): add_worker and enable
#   $manager->segment('app'), file('app'): the segment's name, and its file
#   $manager->slots('app'): (all, in use), as the page shows them
#   $manager->stored($file, $slots): the file's content, see SlotmemFile, and
#       slot_of => { url => id }
#   $manager->served('/app', 30): how many of 30 requests each backend answered,
#       { a => 30 }, or { 503 => 30 } if none did; repeats until two rounds of
#       30 are the same.  count: one round only.
#
# SlotmemBackends->new(qw(a b c)): one httpd, one port for each name, that
# answers every request with the name.  port($name), url($name), stop.
#
# SlotmemGate->new: a backend that delays its answer, to keep a request in
# flight.  hold($server, $path) returns when a child is waiting for the answer;
# release sends the answer and returns what the client got.
#
# SlotmemClient->new($url): requests the URL continuously in its own process; it
# has had an answer when new returns.  finish ends it, after at least one more
# request, and returns what count returns.

package SlotmemBalancer;

use strict;
use warnings;

use SlotmemFile;
use SlotmemServer;

sub new {
    my ($class, $server, %opt) = @_;
    my $url = $opt{url} || $server->url('');
    return bless { server => $server, url => $url }, $class;
}

sub page_url { return "$_[0]{url}/balancer-manager" }

sub page {
    my ($self, $query) = @_;
    my $url = $self->page_url;
    my $response =
        $self->{server}->agent->get($url . ($query // ''), Referer => $url);
    die "$url: ", $response->status_line, "\n" if !$response->is_success;
    return $response->content;
}

# ---- the configuration ----

sub configure {
    my ($self, $balancer, $growth, @urls) = @_;
    my $lines = join '', map {"    BalancerMember $_\n"} @urls;
    $self->{server}->config(<<"EOT");
BalancerPersist On
<Proxy balancer://$balancer>
$lines    ProxySet growth=$growth
</Proxy>
ProxyPass /app balancer://$balancer
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
    $self->{server}->log_mark;
    return;
}

# ---- what the page shows ----

sub state {
    my $self = shift;
    my %state;
    my $xml = $self->page('?xml=1');
    while ($xml =~ m{<httpd:balancer>(.*?)</httpd:balancer>}sg) {
        my ($head, @workers) = split /<httpd:worker>/, $1;
        my ($name) = $head =~ m{<httpd:name>balancer://(.*?)</httpd:name>};
        $state{$name} = [];
        for my $text (@workers) {
            my %field = $text =~ m{<httpd:(\w+)>(.*?)</httpd:}g;
            $field{status} =~ s/\s+$//;
            push @{ $state{$name} },
                {
                url    => $field{name},
                status => $field{status},
                factor => $field{loadfactor} + 0
                };
        }
    }
    return \%state;
}

sub workers {
    my ($self, $balancer) = @_;
    my $workers = $self->state->{$balancer}
        or die "no balancer://$balancer in the balancer-manager\n";
    return @$workers;
}

sub table {
    my ($self, $balancer) = @_;
    return map { "$_->{url} $_->{status} $_->{factor}" }
        $self->workers($balancer);
}

# The segment's name follows the balancer's name in the heading.
sub segment {
    my ($self, $balancer) = @_;
    my ($name) = $self->page =~ m{>balancer://\Q$balancer\E</a> \[(\S+?)\]};
    return $name;
}

sub file {
    my ($self, $balancer) = @_;
    return sprintf '%s/slotmem-shm-%s.shm.persist', $self->{server}->rundir,
        $self->segment($balancer);
}

sub slots {
    my ($self, $balancer) = @_;
    return $self->page =~
        m{>balancer://\Q$balancer\E</a>.*?<td>(\d+) \[(\d+) Used\]}s;
}

# The size of a slot differs between releases of httpd. The end of our own files
# contains it; for any other file it follows from the length, as everything
# else takes 40 bytes and one per slot.
sub stored {
    my ($self, $path, $slots) = @_;
    my $bytes = SlotmemServer::slurp($path);
    my ($size) = SlotmemFile::shape($bytes);
    $size ||= (length($bytes) - 40 - $slots) / $slots;
    my $file = $size >= 1 && $size == int $size
        ? SlotmemFile::decode($bytes, $size, $slots) : undef;
    die "$path: not a whole file of $slots slots\n"
        if !$file || !$file->{digest_ok} || !($file->{claims_ok} // 1);
    $file->{claims} ||= ['none: no section'];
    for my $id (0 .. $slots - 1) {
        my ($url) = $file->{slots}[$id] =~ m{(http://[\d.:]+)} or next;
        $file->{slot_of}{$url} //= $id;
    }
    return $file;
}

# ---- changes ----

# The nonce is in the link in the balancer's heading: the XML of old releases
# does not have it.
sub nonce {
    my ($self, $balancer) = @_;
    my ($nonce) = $self->page
        =~ m{nonce=([-\w]+)["'][^>]*>balancer://\Q$balancer\E</a>}
        or die "no nonce of balancer://$balancer in the balancer-manager\n";
    return $nonce;
}

sub post {
    my ($self, $balancer, %form) = @_;
    my $url      = $self->page_url;
    my $response = $self->{server}->agent->post(
        $url,
        { %form, b => $balancer, nonce => $self->nonce($balancer) },
        Referer => $url
    );
    die "$url: ", $response->status_line, "\n" if !$response->is_success;
    return;
}

sub set_worker {
    my ($self, $balancer, $url, %change) = @_;
    return $self->post($balancer, w => $url, %change);
}

sub drain   { return shift->set_worker(@_[0, 1], w_status_N => 1) }
sub disable { return shift->set_worker(@_[0, 1], w_status_D => 1) }
sub enable  { return shift->set_worker(@_[0, 1], w_status_D => 0) }

sub set_factor {
    my ($self, $balancer, $url, $factor) = @_;
    return $self->set_worker($balancer, $url, w_lf => $factor);
}

sub add_worker {
    my ($self, $balancer, $url) = @_;
    return $self->post($balancer, b_nwrkr => $url, b_wyes => 1);
}

sub add_enabled {
    my ($self, $balancer, $url) = @_;
    $self->add_worker($balancer, $url);
    return $self->enable($balancer, $url);
}

# ---- where requests go ----

sub count {
    my ($self, $path, $requests) = @_;
    my %count;
    for (1 .. $requests) {
        $count{ who($self->{server}->agent->get($self->{url} . $path)) }++;
    }
    return \%count;
}

sub who {
    my $response = shift;
    my $name = $response->is_success ? $response->content : $response->code;
    $name =~ s/\s+$//;
    return $name;
}

# After a change the rounds differ until each child has noticed it and the
# balancer's own counts are even again.
sub served {
    my ($self, $path, $requests) = @_;
    my ($before, $now) = ('');
    for (1 .. 10) {
        my $count = $self->count($path, $requests);
        $now = join ' ', map { "$_=$count->{$_}" } sort keys %$count;
        return $count if $now eq $before;
        $before = $now;
    }
    return { 'never the same twice' => $now };
}

package SlotmemBackends;

use strict;
use warnings;

sub new {
    my ($class, @names) = @_;
    my $server = SlotmemServer->new(
        modules => ['alias'],
        mpm     => 'event',
        dso     => '',
        testmod => 0,
        servers => 1,
        threads => 16
    );
    my $self = bless { server => $server }, $class;
    my $config = '';
    for my $name (@names) {
        my $port = $self->{port}{$name} = SlotmemServer->free_port;
        my $file = $server->root . "/htdocs/$name.txt";
        open my $out, '>', $file or die "$file: $!\n";
        print {$out} "$name\n";
        close $out;
        $config .= <<"EOT";
Listen 127.0.0.1:$port
<VirtualHost 127.0.0.1:$port>
    AliasMatch ^ "$file"
</VirtualHost>
EOT
    }
    $server->config($config);
    $server->start;
    return $self;
}

sub port { return $_[0]{port}{ $_[1] } }
sub url  { return "http://127.0.0.1:$_[0]{port}{$_[1]}" }
sub stop { return $_[0]{server}->stop }

package SlotmemGate;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;

sub new {
    my $class    = shift;
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        Listen    => 5
    ) or die "listen: $@\n";
    return bless { listener => $listener }, $class;
}

sub url { return 'http://127.0.0.1:' . $_[0]{listener}->sockport }

sub hold {
    my ($self, $server, $path) = @_;
    my $waiting = IO::Select->new($self->{listener});
    $self->{server} = $server;
    $self->{handle} = $server->slow_start($path, sub {
        return 0 if !$waiting->can_read(0);
        $self->{held} = $self->{listener}->accept;
    });
    return;
}

sub release {
    my $self = shift;
    my $held = delete $self->{held};
    local $SIG{PIPE} = 'IGNORE';
    print {$held} "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "Connection: close\r\n\r\ngate\n";
    close $held;
    return $self->{server}->slow_finish(delete $self->{handle});
}

package SlotmemClient;

use strict;
use warnings;

use IO::Select;

sub new {
    my ($class, $url) = @_;
    pipe my $until, my $stop or die "pipe: $!\n";
    pipe my $in, my $out or die "pipe: $!\n";
    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        close $_ for $stop, $in;
        my $count = ask($url, $until, $out);
        print {$out} map { "$_ $count->{$_}\n" } sort keys %$count;
        close $out;
        POSIX::_exit(0);
    }
    close $_ for $until, $out;
    <$in>;
    return bless { pid => $pid, stop => $stop, in => $in }, $class;
}

# Runs until the other end of the pipe is closed, which the exit of that process
# also does, and reports the first answer. The pause lets the server be idle
# now and then, as its start waits for that.
sub ask {
    my ($url, $until, $out) = @_;
    my $agent  = LWP::UserAgent->new(timeout => 20, max_redirect => 0);
    my $closed = IO::Select->new($until);
    my %count  = (SlotmemBalancer::who($agent->get($url)) => 1);
    $out->autoflush(1);
    print {$out} "first\n";
    do {
        $count{ SlotmemBalancer::who($agent->get($url)) }++;
    } until $closed->can_read(0.005);
    return \%count;
}

sub finish {
    my $self = shift;
    close $self->{stop};
    my $in = $self->{in};
    my %count = map { /^(.*) (\d+)$/ } <$in>;
    waitpid $self->{pid}, 0;
    return \%count;
}

1;
