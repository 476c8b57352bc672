# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Talks to mod_slotmem_test, the consumer that tests control remotely. Its
# commands are described in test/c-modules/slotmem_test/mod_slotmem_test.c.
#
#   my $api = SlotmemApi->new($server);         # a SlotmemServer
#   my $api = SlotmemApi->new;                  # the server of Apache::Test
#   my @answers = $api->run('grab name=x', 'info name=x');    # one request
#   my $answer = $api->run('grab name=x');      # the last one: a hash
#   $api->check('grab name=x', { id => 0 }, '[D6] text');
#       # a test of these keys, status=APR_SUCCESS unless given; returns the
#       # answer
#   $api->run_in($pid, @commands);              # in this child
#   my ($request) = $api->start_in($pid, @commands);    # does not wait
#   my ($answers) = $api->finish($request);
#   $api->together(\@commands, ...);            # several requests at a time:
#       # a list of array references; undef where the connection broke
#   $api->result('tag');    # the answer of the configured command with tag=tag
#   SlotmemApi::escape($bytes);                 # for a value
#   SlotmemApi::shm_names(@pids);   # the named shared memory that they map:
#       # our files; for other modules POSIX objects or System V segments
#       # ("SysV 123")
#   SlotmemApi::shm_left(@names);   # those that still exist
#   SlotmemApi::shm_remove(@names);
#   SlotmemApi::sysv_segments();    # all System V segments of the machine

package SlotmemApi;

use strict;
use warnings;

use IPC::SysV qw(IPC_RMID);
use LWP::UserAgent;
use POSIX ();
use Storable qw(nfreeze thaw);
use Test::More ();
use Time::HiRes qw(sleep time);

sub new {
    my ($class, $server) = @_;
    my $url;
    if ($server) {
        $url = $server->url('/slotmem');
    }
    else {
        require Apache::Test;
        my $vars = Apache::Test::vars();
        $url = "http://$vars->{servername}:$vars->{port}/slotmem";
    }
    my $self = {
        url   => $url,
        agent => LWP::UserAgent->new(timeout => 60, keep_alive => 0),
    };
    return bless $self, $class;
}

sub escape {
    my $bytes = shift;
    $bytes =~ s/([^A-Za-z0-9.-])/sprintf '%%%02X', ord $1/ge;
    return $bytes;
}

sub unescape {
    my $text = shift;
    $text =~ s/%([0-9A-F]{2})/chr hex $1/ge;
    return $text;
}

# Finds our file of a System V segment: the low bits of the key are those of
# the file's inode number.
sub sysv_files {
    my $key = hex shift;
    return grep { ((stat)[1] // ~$key) % 0x10000 == $key % 0x10000 }
        glob '/dev/shm/slotmem-shm-*';
}

sub shm_names {
    my %seen;
    for my $pid (@_) {
        open my $in, '<', "/proc/$pid/maps" or next;
        while (<$in>) {
            $seen{$1} = 1 if m{ (/dev/shm/(?:ShM\.\w+|slotmem-shm-[-\w./]+))};
            my ($id, $key) = m{ (\d+) +/SYSV(\w+)} or next;
            $seen{$_} = 1 for "SysV $id", sysv_files($key);
        }
    }
    return sort keys %seen;
}

sub sysv_segments {
    open my $in, '<', '/proc/sysvipc/shm' or return;
    return map { /^\s*-?\d+\s+(\d+)/ ? "SysV $1" : () } <$in>;
}

sub shm_left {
    my %there = map { $_ => 1 } sysv_segments();
    return grep { $there{$_} || -e } @_;
}

sub shm_remove {
    for my $name (@_) {
        if   ($name =~ /^SysV (\d+)/) { shmctl $1, IPC_RMID, 0 }
        else                          { unlink $name }
        rmdir $1 if $name =~ m{^(/dev/shm/slotmem-shm-[-\w]+)/};
    }
    return;
}

sub path {
    my ($self, @commands) = @_;
    my $query = join ';', @commands;
    $query =~ tr/ /+/;
    return "/slotmem?$query";
}

sub parse {
    my $text = shift;
    my @answers;
    for my $block (split /\n{2,}/, $text) {
        my %answer = map { /^(\w+)=(.*)/ ? ($1, $2) : () } split /\n/, $block;
        $answer{data} = unescape($answer{data}) if exists $answer{data};
        push @answers, \%answer if %answer;
    }
    return @answers;
}

# Returns the answers, or nothing if the connection broke.
sub try {
    my ($self, @commands) = @_;
    (my $query = $self->path(@commands)) =~ s/^.*\?//;
    my $response = $self->{agent}->get("$self->{url}?$query");
    return if !$response->is_success;
    return parse($response->content);
}

sub run {
    my ($self, @commands) = @_;
    my @answers = $self->try(@commands)
        or die "no answer to: @commands\n";
    my ($bad) = grep { ($_->{error} // '') =~ /^no (?:such|prov)/ } @answers;
    die "$bad->{error}: @commands\n" if $bad;
    return wantarray ? @answers : $answers[-1];
}

# Compares each answer with what is expected; extra keys do not matter.
sub same {
    my ($self, $answer, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %want = (status => 'APR_SUCCESS', %$want);
    delete $want{status} if !defined $want{status};
    my %got = map { $_ => $answer->{$_} } keys %want;
    Test::More::is_deeply(\%got, \%want, $name)
        or Test::More::diag(Test::More::explain($answer));
    return $answer;
}

sub check {
    my ($self, $command, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->same(scalar $self->run($command), $want, $name);
}

# The kernel chooses the child that answers: ask until it is the right one. An
# open connection keeps a prefork child busy, so that the others get a turn.
sub run_in {
    my ($self, $pid, @commands) = @_;
    my $deadline = time + 20;
    while (time < $deadline) {
        my ($here, @answers) = $self->run("only pid=$pid", @commands);
        return wantarray ? @answers : $answers[-1] if $here->{here};
    }
    die "child $pid does not answer\n";
}

# Sends several requests at a time, each from its own process.
sub together {
    my ($self, @scripts) = @_;
    return $self->finish($self->start(@scripts));
}

sub start {
    my ($self, @scripts) = @_;
    return map {
        my $script = $_;
        in_background(sub { $self->try(@$script) });
    } @scripts;
}

# The same for one request to this child; undef also if no child answers.
sub start_in {
    my ($self, $pid, @commands) = @_;
    return in_background(sub { eval { $self->run_in($pid, @commands) } });
}

sub in_background {
    my @calls = @_;
    my @running;
    for my $call (@calls) {
        pipe my $in, my $out or die "pipe: $!";
        defined(my $pid = fork) or die "fork: $!";
        if (!$pid) {
            close $in;
            binmode $out;
            print {$out} nfreeze([$call->()]);
            close $out;
            POSIX::_exit(0);
        }
        close $out;
        push @running, { pid => $pid, in => $in };
    }
    return @running;
}

sub finish {
    my ($self, @running) = @_;
    my @answers;
    for my $client (@running) {
        my $in = $client->{in};
        binmode $in;
        local $/;
        my $answer = thaw(scalar <$in>);
        waitpid $client->{pid}, 0;
        push @answers, $answer && @$answer ? $answer : undef;
    }
    return @answers;
}

# The result of a command that ran outside requests, in the answering process.
sub results {
    my $self = shift;
    return $self->run('results');
}

sub result {
    my ($self, $tag) = @_;
    my ($result) = grep { ($_->{tag} // '') eq $tag } $self->results;
    return $result || {};
}

1;
