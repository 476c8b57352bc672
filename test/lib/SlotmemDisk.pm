# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# A disk for a SlotmemServer that can be slow, hang or fail: slow_disk.c is
# preloaded and replaces fsync(). Its directory is in the server's.
#
#   my $disk = SlotmemDisk->new($server);   # before the server is started
#   $disk->start(@args);                    # the server, with this disk
#   $disk->set(delay => 4000);  $disk->set(hold => '');
#   $disk->set(fail => $pid);               # once, in this process
#   $disk->set(faildir => $pid);            # once, for a directory
#   $disk->set(report => 255);              # fills the next report with a byte
#   $disk->set(unread => $pid);            # it cannot read persisted files
#   $disk->set(fill => "$pid $signal");     # once, when it fills a segment
#   $disk->set(rename => "$pid $signal");   # once, when it renames a file
#   $disk->set(slow => $pid);               # it does not finish filling one
#   $disk->set(ahead => $pid);              # the clock of the process is ahead
#   $disk->well;                            # the disk works normally again
#   $disk->storing;                         # pids of the processes that store
#   $disk->others;                          # pids of the others, except the
#                                           # parent's
#   SlotmemDisk::files_of($pid);            # the targets of /proc/PID/fd

package SlotmemDisk;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

sub new {
    my ($class, $server) = @_;
    my $dir    = $server->root . '/disk';
    my $source = dirname(abs_path(__FILE__)) . '/slow_disk.c';
    mkdir $dir or die "$dir: $!";
    chmod 0755, $dir;
    my $cc = $ENV{CC} || 'cc';
    system("$cc -shared -fPIC -D_GNU_SOURCE -o $dir/slow.so $source -ldl") == 0
        or die "$cc: $source\n";
    return bless { server => $server, dir => $dir }, $class;
}

sub start {
    my ($self, @args) = @_;
    local $ENV{LD_PRELOAD}   = "$self->{dir}/slow.so";
    local $ENV{SLOTMEM_DISK} = $self->{dir};
    return $self->{server}->start(@args);
}

sub set {
    my ($self, $name, $text) = @_;
    open my $out, '>', "$self->{dir}/$name.new" or die $!;
    print {$out} $text;
    close $out or die $!;
    rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die $!;
    return;
}

sub is_set {
    my ($self, $name) = @_;
    return -e "$self->{dir}/$name";
}

sub well {
    my $self = shift;
    unlink map { "$self->{dir}/$_" } qw(delay hold fail faildir report ahead
                                       unread fill rename slow);
    return;
}

# A process that stores has a session of its own; no other process does.
sub storing {
    my $self   = shift;
    my $server = $self->{server};
    my $parent = $server->parent;
    return grep {
        my @stat = split / /, SlotmemServer::slurp("/proc/$_/stat")
            =~ s/^.*\) //sr;
        @stat > 3 && $stat[3] == $_ && $_ != $parent;
    } $server->processes;
}

sub others {
    my $self    = shift;
    my $server  = $self->{server};
    my %known   = map { $_ => 1 } $self->storing, $server->parent;
    return grep { !$known{$_} } $server->processes;
}

sub files_of {
    my $pid = shift;
    return map { readlink($_) // () } glob "/proc/$pid/fd/*";
}

1;
