# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# A private httpd for tests that restart, kill and reconfigure it.
#
#   my $s = SlotmemServer->new(config => $text, modules => [qw(proxy alias)]);
#   $s->start;                            # dies, with the log, if it fails
#   $s->get('/x')->content;  $s->post('/x', { a => 1 });    # HTTP::Response
#   $s->graceful;  $s->restart;  $s->stop;  $s->kill_parent;
#
# Options of new: config (text, see config), modules (names without mod_),
#   mpm, dso ('': none; 'static': linked into httpd), testmod (0: without
#   mod_slotmem_test), servers and threads (how many children, and threads in
#   each), log_level, timeout (s).
# start(@args): daemonised as in production; @args may have -X, -DFOREGROUND.
# graceful, restart: return when the log says "resuming normal operations"
#   again, every new child is ready, and every old one has exited;
#   graceful(wait_old => 0) omits the last point, for a request in flight in an
#   old child.  restart and stop call during => sub { ... } when the first child
#   has exited.
# restart_fails($signal), start_fails: expect failure and return the output and
#   the new part of the log, or undef if the server runs after all.
# kill_parent: kill -9 of the parent only.  end_children: its orphans, by pid.
# slow_start($path): sends a request; returns a handle when a child works on
#   it (or when $arrived->() says so).  slow_finish($handle): its response.
# config($text): for the next (re)start; may use ${PORT} and ${ROOT}.
#   ServerRoot is a temp directory with conf/ logs/ run/ (DefaultRuntimeDir) and
#   htdocs/.  The server has /server-status: do not proxy the whole of "/".
# log, log_mark, log_since, log_count(qr/x/): the error log; log_since returns
#   the lines after the last mark, log_count counts them.
# log_has($tag, $level, @names): how many lines after the last mark have this
#   message at this level ('*': at any) and contain all the names. A string or a
#   number must occur as a whole word after the tag, as many times as it is
#   given here; a pattern may also match the system's reason and httpd's number,
#   which precede the tag.
# log_only: the same, or a text if another message at that level has the names.
# log_lines: the lines of log_has. said($text, ...): log_has on a text, such as
#   the output of configtest; a message that ends the start has the level
#   'config' there. This way a test does not depend on the wording of a message.
#   test/messages.txt has all tags. The distributed module has none, so only the
#   level and the names are compared.
# step('write'): how a line of the log names that step of a store.
# has_directive('SlotmemPersistDir'): whether the module under test knows it.
# Processes are found by their command line, which contains the private
# directory, so a lost pid file hides nothing.  When the object is destroyed,
# also at exit, all processes are ended and all files removed.  Needs Linux's
# /proc.

package SlotmemServer;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use HTTP::Response;
use IO::Socket::INET;
use LWP::UserAgent;
use POSIX qw(WNOHANG);
use Scalar::Util qw(weaken);
use Time::HiRes qw(sleep time);

my %live;     # every server of this process, for END
my %taken;    # ports given out

# A signal that ends the test must still run END.
for my $signal (qw(HUP INT TERM)) {
    $SIG{$signal} = sub { exit 130 }
        if !$SIG{$signal} || $SIG{$signal} eq 'DEFAULT';
}

END {
    my $status = $?;
    $_->destroy for grep { defined } values %live;
    $? = $status;
}

# ---- what is installed ----

sub apxs_query {
    my ($class, $name) = @_;
    my $apxs = $ENV{APXS} || 'apxs';
    chomp(my $value = `$apxs -q $name`);
    die "apxs -q $name: nothing\n" if $value eq '';
    return $value;
}

sub httpd {
    my $class = shift;
    return $ENV{SLOTMEM_HTTPD} ||= join '/',
        $class->apxs_query('exp_sbindir'), $class->apxs_query('progname');
}

sub default_dso {
    return $ENV{SLOTMEM_DSO}
        || dirname(abs_path(__FILE__)) . '/../../.libs/mod_slotmem_shm.so';
}

# Whether the module under test has one of our directives.
sub has_directive {
    my ($class, $name) = @_;
    my $dso = $class->default_dso;
    $dso = $class->httpd if $dso eq 'static';
    return index(slurp($dso), $name) >= 0;
}

# Whether the module under test is ours, whose messages have tags.
my %ours;
sub is_ours {
    my $dso = default_dso();
    return $ours{$dso} //=
        __PACKAGE__->has_directive('SlotmemPersistDir') ? 1 : 0;
}

my ($libexec, $static);

# The LoadModule line of a module, or none if it is built in.
sub load_module {
    my ($class, $name) = @_;
    $libexec ||= $class->apxs_query('exp_libexecdir');
    my $file = "$libexec/mod_$name.so";
    return "LoadModule ${name}_module $file\n" if -f $file;
    my $httpd = $class->httpd;
    $static ||= `$httpd -l`;
    return '' if $static =~ /^\s*(?:mod_)?\Q$name\E\.c$/m;
    die "no module $name: $file is missing\n";
}

# The port is below the range for outgoing connections, so that none of these
# takes it while the server is stopped.
sub free_port {
    for (1 .. 1000) {
        my $port = 10000 + int rand 20000;
        next if $taken{$port}++;
        my $probe = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1',
            LocalPort => $port,
            Listen    => 1,
            ReuseAddr => 1
        ) or next;
        close $probe;
        return $port;
    }
    die "no free port\n";
}

# ---- making and removing ----

sub new {
    my ($class, %opt) = @_;
    my $mpm  = $opt{mpm} || $ENV{SLOTMEM_MPM} || 'event';
    my $self = bless {
        mpm       => $mpm,
        servers   => $mpm eq 'prefork' ? 3 : 2,
        threads   => $mpm eq 'prefork' ? 1 : 4,
        modules   => [],
        dso       => $class->default_dso,
        timeout   => 20,
        testmod   => $ENV{SLOTMEM_TESTMOD},
        %opt,
        port  => $class->free_port,
        root  => tempdir('slotmem-XXXXXXXX', TMPDIR => 1),
        mark  => 0,
        owner => $$,
    }, $class;
    $live{$self} = $self;
    weaken($live{$self});
    die "no module to test: $self->{dso}\n"
        if $self->dso_file && !-f $self->dso_file;
    chmod 0755, $self->{root} or die "$self->{root}: $!\n";
    for my $name (qw(conf logs run htdocs)) {
        mkdir "$self->{root}/$name" or die "$self->{root}/$name: $!\n";
        chmod 0755, "$self->{root}/$name";
    }
    $self->config($opt{config} // '');
    return $self;
}

sub destroy {
    my $self = shift;
    return if $self->{owner} != $$ || !delete $live{$self};
    $self->end_processes;
    remove_tree($self->{root});
    return;
}

sub DESTROY {
    my $self = shift;
    local ($@, $?, $!);
    $self->destroy if $self->{owner} && $live{$self};
    return;
}

# ---- the configuration ----

# The limits are so wide that the server never adds or ends a child by itself.
# The numbers: servers, threads in each, threads in all.
my %limits = (prefork => <<'EOT', threaded => <<'EOT');
    StartServers        %1$d
    ServerLimit         16
    MinSpareServers     1
    MaxSpareServers     16
    MaxRequestWorkers   16
EOT
    StartServers        %1$d
    ServerLimit         16
    ThreadsPerChild     %2$d
    ThreadLimit         %2$d
    MinSpareThreads     1
    MaxSpareThreads     %3$d
    MaxRequestWorkers   %3$d
EOT

# The argument of LoadModule, or '' if there is nothing to load.
sub dso_file {
    my $self = shift;
    return $self->{dso} eq 'static' ? '' : $self->{dso};
}

sub preamble {
    my $self    = shift;
    my $threads = $self->{threads};
    my $model   = $self->{mpm} eq 'prefork' ? 'prefork' : 'threaded';
    my %seen;
    my @names = grep { !$seen{$_}++ } "mpm_$self->{mpm}",
        qw(unixd log_config authz_core status), @{ $self->{modules} };
    my $load = join '', map { $self->load_module($_) } @names;
    $load .= 'LoadModule slotmem_shm_module ' . $self->dso_file . "\n"
        if $self->dso_file;
    $load .= "LoadModule slotmem_test_module $self->{testmod}\n"
        if $self->{testmod};
    no warnings 'redundant';
    my $limits = sprintf $limits{$model}, $self->{servers}, $threads,
        16 * $threads;
    my $level = $self->{log_level}
        || ($self->{dso} ? 'notice slotmem_shm:debug' : 'notice');
    my $user = $> == 0 ? "User nobody\nGroup nogroup\n" : '';

    return <<"EOT";
ServerRoot "$self->{root}"
${load}Define ROOT $self->{root}
Define PORT $self->{port}
Listen 127.0.0.1:$self->{port}
ServerName 127.0.0.1
${user}DefaultRuntimeDir run
PidFile "$self->{root}/run/httpd.pid"
ErrorLog logs/error_log
LogLevel $level
DocumentRoot "$self->{root}/htdocs"
Timeout 30
GracefulShutdownTimeout 5
KeepAlive Off
<IfModule mpm_$self->{mpm}_module>
$limits</IfModule>
<Location /server-status>
    SetHandler server-status
</Location>
EOT
}

sub config {
    my ($self, $text) = @_;
    if (defined $text) {
        $self->{config} = $text;
        open my $out, '>', $self->config_file or die $self->config_file, ": $!";
        print {$out} $self->preamble, $text;
        close $out or die $self->config_file, ": $!";
    }
    return $self->{config};
}

sub append_config {
    my ($self, $text) = @_;
    return $self->config($self->{config} . $text);
}

sub modules {
    my ($self, @names) = @_;
    $self->{modules} = \@names;
    return $self->config($self->{config});
}

# ---- paths and requests ----

sub root        { return $_[0]{root} }
sub rundir      { return "$_[0]{root}/run" }
sub port        { return $_[0]{port} }
sub mpm         { return $_[0]{mpm} }
sub config_file { return "$_[0]{root}/conf/httpd.conf" }
sub log_file    { return "$_[0]{root}/logs/error_log" }

sub url {
    my ($self, $path) = @_;
    return "http://127.0.0.1:$self->{port}$path";
}

sub agent {
    my $self = shift;
    return $self->{agent} ||= LWP::UserAgent->new(
        timeout      => $self->{timeout},
        max_redirect => 0
    );
}

sub get {
    my ($self, $path, @headers) = @_;
    return $self->agent->get($self->url($path), @headers);
}

sub post {
    my ($self, $path, $form, @headers) = @_;
    return $self->agent->post($self->url($path), $form, @headers);
}

# ---- the error log ----

sub log {
    my $self = shift;
    return slurp($self->log_file);
}

sub log_mark {
    my $self = shift;
    return $self->{mark} = -s $self->log_file || 0;
}

sub log_since {
    my ($self, $mark) = @_;
    return substr $self->log, $mark // $self->{mark};
}

sub log_count {
    my ($self, $pattern) = @_;
    return scalar grep { /$pattern/ } split /\n/, $self->log_since;
}

# ---- messages ----

# Finds the messages of the module under test in a text. A line of the log is
# "[time] [slotmem_shm:level] [pid N] (N)reason: AHNNNNN: SLOTMEM-NN: text",
# without the parts that do not apply; a configuration message has the end only.
sub messages {
    my $text = shift;
    my @messages;
    for my $line (split /\n/, $text) {
        my ($level, $said) = $line =~
            /^\[[^]]*\] \[slotmem_shm:(\w+)\] \[pid [^]]*\] (.*)/;
        ($level, $said) = ('config', $line)
            if !$level && $line =~ /^SLOTMEM-\d\d: /;
        next if !$level;
        my ($tag, $after) = $said =~
            /^(?:\(\d+\).*?: )?(?:AH\d{5}: )?(SLOTMEM-\d\d): (.*)/;
        push @messages, { line => $line, level => $level, said => $said,
            tag => $tag // '', after => $after // $said };
    }
    return @messages;
}

# A name must be a whole word: not part of another one, nor of a path.
sub names_all {
    my ($message, @names) = @_;
    my %times;
    for my $name (@names) {
        if (ref $name) {
            return 0 if $message->{said} !~ $name;
            next;
        }
        my $found = () = $message->{after} =~
            m{(?<![-.\w/])\Q$name\E(?![-\w/]|\.\w)}g;
        return 0 if $found < ++$times{$name};
    }
    return 1;
}

# At this level, or at any. For a module without tags "any" excludes debug, as
# it logs every call there.
sub at_level {
    my ($message, $level) = @_;
    return $message->{level} eq $level if $level ne '*';
    return is_ours() || $message->{level} !~ /^(?:debug|trace)/;
}

sub find_messages {
    my ($text, $tag, $level, @names) = @_;
    return grep {
        (!is_ours() || $_->{tag} eq $tag)
            && at_level($_, $level)
            && names_all($_, @names)
    } messages($text);
}

sub said {
    my ($class, @wanted) = @_;
    return scalar(my @found = find_messages(@wanted));
}

sub log_lines {
    my ($self, @wanted) = @_;
    return map { $_->{line} } find_messages($self->log_since, @wanted);
}

sub log_has {
    my ($self, @wanted) = @_;
    return $self->said($self->log_since, @wanted);
}

sub log_only {
    my ($self, $tag, $level, @names) = @_;
    my @all = grep { at_level($_, $level) && names_all($_, @names) }
        messages($self->log_since);
    my @other = grep { is_ours() && $_->{tag} ne $tag } @all;
    return @other ? "not $tag: $other[0]{line}" : scalar @all;
}

# docs/messages.md has the steps in the order in which a store takes them, and
# doc-tests compares their words with the source.
my @steps = qw(finish memory open-directory trust-directory create write fsync
    close aside backup rename fsync-directory);

sub step {
    my ($class, $name) = @_;
    my $page = $ENV{SLOTMEM_MESSAGES}
        || dirname(abs_path(__FILE__)) . '/../../docs/messages.md';
    my ($table) = slurp($page) =~ /^## Steps of a store$(.*?)^## /ms;
    my @words = ($table // '') =~ /^\| `([^`]+)`/mg;
    my %words;
    @words{@steps} = @words;
    die "$page: expected the steps @steps\n"
        if @words != @steps || !$words{$name};
    return $words{$name};
}

# ---- processes ----

sub slurp {
    my $file = shift;
    open my $in, '<:raw', $file or return '';
    local $/;
    return scalar(<$in>) // '';
}

# Whether a process whose command line is already gone still holds its files,
# including its port. It does until it is a zombie and all its threads are gone.
sub is_ending {
    my $pid = shift;
    my ($state) = slurp("/proc/$pid/stat") =~ /\) (\S)/ or return 0;
    my @threads = glob "/proc/$pid/task/*";
    return $state !~ /[ZX]/ || @threads > 1;
}

# All processes of this server, whatever their parent.
sub processes {
    my $self = shift;
    my $file = $self->config_file;
    my @found;
    for my $pid (map { m{(\d+)} } glob '/proc/[0-9]*') {
        my $line = slurp("/proc/$pid/cmdline");
        push @found, $pid
            if index($line, $file) >= 0
            || $line eq '' && $self->{seen}{$pid} && is_ending($pid);
    }
    $self->{seen} = { map { $_ => 1 } @found };
    return @found;
}

sub parent {
    my $self = shift;
    return $self->{pid} if $self->{pid};
    my ($pid) = slurp($self->rundir . '/httpd.pid') =~ /^(\d+)/;
    return $pid;
}

sub is_alive {
    my ($self, $pid) = @_;
    return scalar grep { $_ == $pid } $self->processes;
}

sub children {
    my $self = shift;
    my $parent = $self->parent or return;
    return grep { slurp("/proc/$_/stat") =~ /\) \S (\d+) / && $1 == $parent }
        $self->processes;
}

# Waits until $done->() is true, or $giveup->() says why it never will be.
sub wait_until {
    my ($self, $what, $done, $giveup) = @_;
    my $deadline = time + $self->{timeout};
    while (1) {
        my $result = $done->();
        return $result if $result;
        my $why = $giveup && $giveup->();
        $why ||= "no success in $self->{timeout} s" if time > $deadline;
        die "$what: $why; the log:\n", $self->log_tail if $why;
        sleep 0.02;
    }
}

sub log_tail {
    my $self = shift;
    my @lines = split /^/, ($self->{output} // '') . $self->log;
    @lines = @lines[-30 .. -1] if @lines > 30;
    return join '', @lines;
}

# A parent ends its children; orphans may not react to the first signal.
sub end_processes {
    my $self   = shift;
    my $parent = $self->parent || 0;
    for my $signal (qw(TERM KILL)) {
        my @pids   = $self->processes or last;
        my $orphan = !grep { $_ == $parent } @pids;
        my $grace  = time + ($orphan ? 0.5 : 3);
        kill $signal, $orphan || $signal eq 'KILL' ? @pids : $parent;
        while ($self->processes && time < $grace) {
            sleep 0.02;
        }
    }
    $self->reap;
    return;
}

# Only a server in the foreground is a child of this process.
sub reap {
    my $self = shift;
    waitpid $self->{launched}, 0 if $self->{launched};
    delete @$self{qw(launched pid)};
    return;
}

# ---- running httpd ----

# Runs httpd and waits for the process that it started, unless $background.
# Only root can start a server as another user: new(uid => 1, gid => 1).
sub become_user {
    my $self = shift;
    my ($uid, $gid) = @$self{qw(uid gid)};
    chown $uid, $gid, map { "$self->{root}/$_" } qw(logs run logs/output);
    $( = $gid;
    $) = "$gid $gid";
    ($<, $>) = ($uid, $uid);
    die "no user $uid: $!\n" if $> != $uid;
    return;
}

sub launch {
    my ($self, $background, @args) = @_;
    my $file = "$self->{root}/logs/output";
    my $httpd = $self->httpd;
    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        setpgrp;    # in the foreground httpd signals its process group
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', $file or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT;
        $self->become_user if $self->{uid};
        { exec $httpd, '-d', $self->{root}, '-f', $self->config_file, @args; }
        POSIX::_exit(127);
    }
    $self->{launched} = $pid;
    if ($background) {
        $self->wait_until("httpd @args", sub { $self->processes },
            sub { waitpid($pid, WNOHANG) == $pid && 'it has ended' });
        return 0;
    }
    my $status;
    $self->wait_until("httpd @args", sub {
        return 0 if waitpid($pid, WNOHANG) != $pid;
        $status = $?;
        return 1;
    });
    delete $self->{launched};
    $self->{output} = slurp($file);
    return $status & 127 ? 128 + ($status & 127) : $status >> 8;
}

sub run_args {
    my ($self, @args) = @_;
    my $code = $self->launch(0, @args);
    return ($code, $self->{output});
}

sub configtest {
    my $self = shift;
    return $self->run_args('-t');
}

# A generation is up when the log says so and all its threads are ready.  The
# status page counts only the threads of the current generation, and the one
# that answers is busy.  With -X nothing is logged, and there are no children.
sub wait_ready {
    my ($self, $mark, %old) = @_;
    my $gone = sub { $self->processes ? '' : 'the server has ended' };
    my $need = $self->{servers} * $self->{threads} - 1;
    if ($self->{single}) {
        $need = 0;
    }
    else {
        $self->wait_until('start', sub {
            $self->log_since($mark) =~ /resuming normal operations/
        }, $gone);
        $self->wait_until('children', sub {
            $self->{servers} <= grep { !$old{$_} } $self->children
        }, $gone);
    }
    $self->wait_until('answer', sub {
        my $text = $self->get('/server-status?auto')->content;
        return $text =~ /^IdleWorkers: (\d+)/m && $1 >= $need;
    }, $gone);
    return;
}

sub try_start {
    my ($self, @args) = @_;
    die "the server runs\n" if $self->processes;
    delete @$self{qw(pid output)};
    unlink $self->rundir . '/httpd.pid';
    my $mark       = -s $self->log_file || 0;
    my $background = grep { /^-(?:X|D(?:FOREGROUND|NO_DETACH))$/ } @args;
    $self->{single} = grep { $_ eq '-X' } @args;
    my $code = $self->launch($background, @args);
    $self->{output} = slurp("$self->{root}/logs/output");
    die "httpd ended with $code:\n", $self->log_tail if $code;
    $self->wait_ready($mark);
    $self->{pid} = $self->parent;
    return;
}

sub start {
    my ($self, @args) = @_;
    eval { $self->try_start(@args); 1 } or die "start: $@";
    return $self;
}

sub start_fails {
    my ($self, @args) = @_;
    my $mark = -s $self->log_file || 0;
    return undef if eval { $self->try_start(@args); 1 };
    $self->end_processes;
    return slurp("$self->{root}/logs/output") . $self->log_since($mark);
}

sub stop {
    my ($self, %opt) = @_;
    my $parent = $self->parent or return $self;
    my @old    = $self->children;
    $self->settle;
    kill $opt{signal} || 'TERM', $parent if $self->is_alive($parent);
    $self->call_during($opt{during}, @old) if $opt{during};
    $self->wait_until('stop', sub { !$self->processes });
    $self->reap;
    return $self;
}

# mpm_event can crash if it is stopped while a worker closes the connection of
# the last request, with or without slotmem modules: its main thread then closes
# the socket that the worker has just freed. The end of that is not visible from
# outside, so give it time.
sub settle {
    my $self = shift;
    sleep 0.1 if ($self->{mpm} // '') eq 'event';
    return;
}

sub graceful_stop {
    my $self = shift;
    return $self->stop(signal => 'WINCH');
}

# Runs while the parent waits for its children: the first one has exited.
sub call_during {
    my ($self, $during, @old) = @_;
    my %old = map { $_ => 1 } @old;
    $self->wait_until('end of a child', sub {
        @old > grep { $old{$_} } $self->processes;
    });
    $during->();
    return;
}

sub signal_restart {
    my ($self, $signal, %opt) = @_;
    my $mark = -s $self->log_file || 0;
    my %old  = map { $_ => 1 } $self->children;
    $self->settle;
    kill $signal, $self->parent or die "no parent to restart\n";
    $self->call_during($opt{during}, keys %old) if $opt{during};
    $self->wait_ready($mark, %old);
    return $self if exists $opt{wait_old} && !$opt{wait_old};
    $self->wait_until('end of old children', sub {
        !grep { $old{$_} } $self->processes;
    });
    return $self;
}

sub graceful {
    my ($self, %opt) = @_;
    return $self->signal_restart('USR1', %opt);
}

sub restart {
    my ($self, %opt) = @_;
    return $self->signal_restart('HUP', %opt);
}

sub restart_fails {
    my ($self, $signal) = @_;
    my $mark   = -s $self->log_file || 0;
    my $parent = $self->parent;
    kill $signal || 'USR1', $parent;
    my $gone = eval {
        $self->wait_until('', sub { !$self->is_alive($parent) });
    };
    return undef if !$gone;
    $self->end_processes;
    return $self->log_since($mark);
}

sub kill_parent {
    my $self   = shift;
    my $parent = $self->parent;
    kill 'KILL', $parent;
    $self->wait_until('kill', sub { !$self->is_alive($parent) });
    $self->reap;
    return $self;
}

sub end_children {
    my $self = shift;
    my $parent = $self->parent || 0;
    die "the parent is alive: use stop\n" if $self->is_alive($parent);
    $self->end_processes;
    return $self;
}

# ---- a request in flight ----

# How many workers are busy, including the one of this request.
sub busy {
    my $self = shift;
    my ($board) =
        $self->get('/server-status?auto')->content =~ /^Scoreboard: (\S+)/m;
    return ($board // '') =~ tr/W//;
}

sub slow_start {
    my ($self, $path, $arrived) = @_;
    my $before = $arrived ? 0 : $self->busy;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $self->{port},
        Timeout  => $self->{timeout}
    ) or die "connect: $@\n";
    print {$socket} "GET $path HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "Connection: close\r\n\r\n";
    $socket->flush;
    $arrived ||= sub { $self->busy > $before };
    $self->wait_until("request of $path", $arrived);
    return $socket;
}

# The response, or one with the code 599 if the connection ended without any.
sub slow_finish {
    my ($self, $socket) = @_;
    my $text = '';
    my $done = eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm $self->{timeout};
        while (sysread $socket, my $part, 65536) {
            $text .= $part;
        }
        alarm 0;
        1;
    };
    alarm 0;
    close $socket;
    return HTTP::Response->new(599, $done ? 'no response' : $@) if $text eq '';
    my $response = HTTP::Response->parse($text);
    if (lc($response->header('Transfer-Encoding') // '') eq 'chunked') {
        my $body = '';
        my $rest = $response->content;
        while ($rest =~ s/^([0-9a-fA-F]+)[^\n]*\n//) {
            my $size = hex $1 or last;
            $body .= substr $rest, 0, $size, '';
            $rest =~ s/^\r?\n//;
        }
        $response->content($body);
    }
    return $response;
}

1;
