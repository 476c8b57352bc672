# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Lets a suite run to its end with a module that does not keep the contract.
# test/apache-tests makes every suite load it, through PERL5OPT, for any module
# except ours.
#
# Failures that would end the suite are noted ("kept going: ...") instead:
#   - a request without an answer gets the answer "status=no answer"
#   - a server that does not start, restart or stop is killed; the next start
#     or restart starts a new one
#   - a wait gives up sooner, and the suite continues
# A suite that takes longer than $seconds is stopped.

package SlotmemKeepGoing;

use strict;
use warnings;

use SlotmemApi;
use SlotmemBalancer;
use SlotmemServer;
use Test::More ();
use Time::HiRes qw(sleep time);

my $seconds = 150;

sub note_it {
    my $what = shift;
    my ($first) = split /\n/, $what;
    Test::More::note("kept going: $first");
    return;
}

# Replaces a method with $with->($original, @arguments).
sub replace {
    my ($name, $with) = @_;
    no strict 'refs';
    no warnings 'redefine';
    my $original = \&{$name};
    *{$name} = sub { return $with->($original, @_) };
    return;
}

sub no_answers {
    my ($why, @commands) = @_;
    note_it($why);
    my @answers = map { { status => 'no answer' } } @commands;
    return wantarray ? @answers : $answers[-1];
}

replace('SlotmemApi::run', sub {
    my ($run, $self, @commands) = @_;
    my @answers = eval { $run->($self, @commands) };
    return wantarray ? @answers : $answers[-1] if @answers;
    return no_answers($@, @commands);
});
replace('SlotmemApi::run_in', sub {
    my ($run_in, $self, $pid, @commands) = @_;
    my @answers = eval { $run_in->($self, $pid // 0, @commands) };
    return wantarray ? @answers : $answers[-1] if @answers;
    return no_answers($@, @commands);
});

replace('SlotmemServer::new', sub {
    my ($new, $class, %opt) = @_;
    return $new->($class, %opt, timeout => 8);
});

# The methods below handle the failures of the library's own waits.
replace('SlotmemServer::wait_until', sub {
    my ($wait, @arguments) = @_;
    return $wait->(@arguments) if (caller 1)[0] eq 'SlotmemServer';
    my $result = eval { $wait->(@arguments) };
    note_it($@) if !$result;
    return $result;
});

replace('SlotmemServer::start', sub {
    my ($start, $self, @args) = @_;
    $self->end_processes if $self->processes;
    return $self if eval { $start->($self, @args); 1 };
    note_it("the server does not start: $@");
    $self->end_processes;
    return $self;
});
replace('SlotmemServer::signal_restart', sub {
    my ($restart, $self, @args) = @_;
    my $parent = $self->parent;
    if ($parent && $self->is_alive($parent)) {
        return $self if eval { $restart->($self, @args); 1 };
        note_it("the server did not survive the restart: $@");
        $self->end_processes;
    }
    return $self->start;
});
for my $method (qw(stop kill_parent end_children)) {
    replace("SlotmemServer::$method", sub {
        my ($original, $self, @args) = @_;
        return $self if eval { $original->($self, @args); 1 };
        note_it("$method: $@");
        $self->end_processes;
        return $self;
    });
}

replace('SlotmemBalancer::stored', sub {
    my ($stored, @arguments) = @_;
    my $file = eval { $stored->(@arguments) };
    return $file if $file;
    note_it($@);
    return { used => ['no file'], claims => ['no file'] };
});

# Ends a suite that hangs, with its processes: the harness waits for every
# process that holds its pipe open.
sub watch {
    my $suite = $$;
    defined(my $watcher = fork) or die "fork: $!\n";
    return if $watcher;
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    $SIG{$_} = 'DEFAULT' for qw(HUP INT TERM);
    my $deadline = time + $seconds;
    sleep 0.2 while getppid == $suite && time < $deadline;
    kill 'TERM', $suite if getppid == $suite;
    POSIX::_exit(0);
}
watch() if $0 =~ /\.t$/;

1;
