# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# SlotmemPersistDir: the directory of persisted files with relative names
# (contract, B2, B10, C2 and C3).

use strict;
use warnings;

use Digest::MD5 qw(md5);
use Fcntl qw(:DEFAULT SEEK_SET);
use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;
use Time::HiRes ();

plan skip_all => 'the module has no SlotmemPersistDir'
    if !SlotmemServer->has_directive('SlotmemPersistDir');

my $s      = SlotmemServer->new;
my $api    = SlotmemApi->new($s);
my $root   = $s->root;
my $state = "$root/state";
my $create = 'SlotmemTest post_config create size=16 num=4 type=persist';
my $names  = "$create name=kept\n$create name=$root/absolute\n";
my $dir    = "SlotmemPersistDir $state\n";
my $file   = 'slotmem-shm-kept.shm.persist';
mkdir $state or die "$state: $!";

sub put_file {
    my ($path, $bytes) = @_;
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} $bytes;
    close $out or die "$path: $!";
    return;
}

# Everything about the files of a directory.
sub snapshot {
    my $in = shift;
    return join "\n", map {
        my @stat = Time::HiRes::stat($_);
        join ' ', $_, @stat[1, 2, 7, 9, 10], SlotmemServer::slurp($_)
    } grep { !/httpd\.pid/ } sort glob "$in/*";
}

# Holds the lock of a name as a server does: on a byte that depends on its MD5.
sub lock_byte {
    my ($handle, $name) = @_;
    my $offset = unpack('V', md5($name)) & 0x7ffffffe;
    fcntl $handle, F_SETLK, pack 's s x![q] q q i x![q]', F_WRLCK, SEEK_SET,
        $offset, 1, 0
        or die "lock: $!";
    return 1;
}

sub slot {
    my ($path, $id) = @_;
    return SlotmemFile::decode(SlotmemServer::slurp($path), 16, 4)
        ->{slots}[$id] // '';
}

# ---- directories that are refused ----

put_file("$root/file", '');
mkdir "$root/$_" for qw(world sticky above above/dir);
chmod 0777,  "$root/world";
chmod 01777, "$root/sticky";
chmod 0777,  "$root/above";

# The fault, and the command that fixes it.
my %bad = (
    'a file'                 => ["$root/file",  qr/not a directory.*install -d/],
    'beyond a file'          => ["$root/file/x", qr/not a directory/],
    'writable by everybody'  => ["$root/world",  qr/chmod o-w \Q$root\E\/world/],
    'sticky, world-writable' => ["$root/sticky", qr/chmod o-w/],
    'in one that everybody can write' =>
        ["$root/above/dir", qr/above is writable.*chmod o-w \Q$root\E\/above$/m],
);
for my $what (sort keys %bad) {
    my ($path, $why) = @{ $bad{$what} };
    $s->config("SlotmemPersistDir $path\n$names");
    my ($code, $output) = $s->configtest;
    isnt($code, 0, "[E8] $what: an error of httpd -t");
    my @error =
        ('SLOTMEM-20', 'config', 'SlotmemPersistDir',
        $path =~ s{/(?:x|dir|state)$}{}r, $why);
    is(SlotmemServer->said($output, @error), 1,
        '[E8] ... names directive and directory, and says why')
        or diag($output);
    my $started = $s->start_fails;
    ok(defined $started, '[E8] ... and the server does not start');
    is(SlotmemServer->said($started // '', @error), 1,
        '[E8] ... with the same line');
}
is(snapshot("$root/world"), '', '[B10] nothing was written there');
$s->config("<VirtualHost 127.0.0.1:9>\n$dir</VirtualHost>\n");
my ($code, $output) = $s->configtest;
isnt($code, 0, 'in a virtual host it is an error');
like($output, qr/SlotmemPersistDir/, '... that names the directive');

# ---- directories that are accepted ----

chmod 0770, "$root/world";
$s->config("SlotmemPersistDir $root/world\n$names");
($code, $output) = $s->configtest;
is($code, 0, '[E8] writable by the group: accepted') or diag($output);
is(SlotmemServer->said($output, 'SLOTMEM-06', 'warn', 'SlotmemPersistDir',
    "$root/world"), $> == 0 ? 1 : 0, '[E8] ... with a warning for root only');
$s->config($dir . $names);
($code, $output) = $s->configtest;
is($code, 0, 'writable by its owner only: accepted');
unlike($output, qr/warn/, '... without a warning');
$s->config($names);
chmod 0777, $s->rundir;
($code, $output) = $s->configtest;
is($code, 0, 'the default directory is not checked');
chmod 0755, $s->rundir;

# ---- directories that cannot be used, which is no outage (B13) ----

$s->config("SlotmemPersistDir $root/a/b\n$names");
($code, $output) = $s->configtest;
is($code, 0, '[B13] missing, with its parent: accepted') or diag($output);
$s->log_mark;
$s->start;
my $where = "$root/a/b/$file";
$api->run('put name=kept id=1 data=one');
$s->graceful;
is($s->log_only('SLOTMEM-17', 'error', 'kept', $where, qr/No such file/), 1,
    '[B13] ... the server runs, and one line says that it cannot store')
    or diag($s->log_since);
is($api->run('dptr name=kept id=1')->{data}, 'one',
    '[B12] ... and the state is kept over the restart');
mkdir "$root/a" or die $!;
$api->run('put name=kept id=2 data=two');
$s->graceful;
is(slot($where, 1) . slot($where, 2), 'onetwo',
    '[B13] once its parent exists, it is created, and the state is stored');
is((stat "$root/a/b")[2] & 07777, 0700, '[B13] ... with mode 0700');

# It becomes untrusted.
chmod 0777, "$root/a/b";
$api->run('put name=kept id=2 data=three');
$s->log_mark;
$s->graceful;
is($s->log_only('SLOTMEM-44', 'error', 'SlotmemPersistDir',
    qr{chmod o-w \Q$root/a/b\E}), 1,
    '[B13] world-writable at a restart: the server continues, and reports it')
    or diag($s->log_since);
is($s->log_only('SLOTMEM-17', 'error', 'kept',
    qr{cannot trust the directory.*chmod o-w \Q$root/a/b\E}), 1,
    '[E8] ... it is not stored there') or diag($s->log_since);
is(slot($where, 2), 'two', '[E8] ... the file is the old one');
is($api->run('dptr name=kept id=2')->{data}, 'three',
    '[B12] ... nothing is lost');
chmod 0700, "$root/a/b";
$s->graceful;
is(slot($where, 2), 'three', '[B13] once fixed, it is stored again');

# Another directory in its place, as after a mount: the good file in it is kept.
$api->run('put name=kept id=2 len=16 data=four');
rename "$root/a/b", "$root/a/c" or die $!;
mkdir "$root/a/b", 0700 or die $!;
put_file($where, 'somebody else\'s');
$s->log_mark;
$s->stop;
is(SlotmemServer::slurp("$where.bad-1"), 'somebody else\'s',
    '[E9] a file that this server neither restored nor wrote is set aside');
is($s->log_only('SLOTMEM-41', 'warn', 'kept', $where, "$where.bad-1"), 1,
    '[E9] ... and a line reports it') or diag($s->log_since);
is(slot($where, 2), 'four', '[E9] ... the state is stored');

# ---- the place of the files ----

# First they are in the default directory; then the directive is set.
unlink "$root/absolute.persist", $s->rundir . "/$file";
$s->config($names);
$s->start;
$api->run('put name=kept id=1 data=run', "put name=$root/absolute id=1 data=a");
$s->stop;
is(slot($s->rundir . "/$file", 1), 'run', '[C2] without it: DefaultRuntimeDir');
my $old = snapshot($s->rundir);
my $old_bytes = SlotmemServer::slurp($s->rundir . "/$file");
$s->config($dir . $names);
($code, $output) = $s->configtest;
($code, $output) = $s->run_args('-S');
is(snapshot($state), '', '[B10] -t and -S write nothing into the new one');
is(snapshot($s->rundir), $old, '[B10] ... nor rename anything in the old one');
$s->log_mark;
$s->start;
is($api->run('dptr name=kept id=1')->{data}, 'run',
    '[B2] no file in the new directory yet: the old one is restored');
is($s->log_only('SLOTMEM-10', 'info', 'kept', 4, 4, $s->rundir . "/$file"),
    1, '[B2] ... and a line names it') or diag($s->log_since);
is($api->run("dptr name=$root/absolute id=1")->{data}, 'a',
    '[C3] absolute names stay in their place');
$s->graceful;
is($s->log_only('SLOTMEM-42', 'notice', 'kept', $s->rundir . "/$file"), 1,
    '[E10] the first store takes it over, and reports it')
    or diag($s->log_since);
is(slot("$state/$file", 1), 'run',
    '[B2] an unchanged segment is also stored in the new directory');
$api->run('put name=kept id=2 data=state',
    "put name=$root/absolute id=2 data=b");
$s->stop;
is(slot("$state/$file", 2), 'state', '[B2] then it is stored in the new one');
is(slot("$root/absolute.persist", 2), 'b',
    '[C3] absolute names are stored in their place');
ok(!-e "$state/absolute.persist", '[C3] ... and not in the directory');
is(SlotmemServer::slurp($s->rundir . "/$file.old"), $old_bytes,
    '[E10] the old file was renamed by the first store');
is(snapshot($s->rundir) =~ /persist /, '',
    '[E10] ... it does not exist twice');
is((stat "$state/$file")[2] & 07777, 0600, 'the file is for its owner only');
is(join(' ', map { s{.*/|-\w{8}(?=\.names)}{}gr } sort glob "$state/*"),
    "slotmem-shm.names $file slotmem-shm.lock",
    'the directory has the file, the lock file and the list of names');

# From then on the old one does not matter.
$s->start;
my @got = $api->run('dptr name=kept id=1', 'dptr name=kept id=2');
is("$got[0]{data} $got[1]{data}", 'run state', '[B2] the new one is restored');
$s->restart;
is($api->run('dptr name=kept id=2')->{data}, 'state',
    '[B2] ... also at a restart');
$s->stop;
put_file("$state/$file", 'damaged');
$s->log_mark;
$s->start;
is($api->run('dptr name=kept id=1')->{data}, '',
    '[E3] a damaged file is not replaced from the old directory');
is($s->log_only('SLOTMEM-11', 'error', "$state/$file"), 1,
    '[E3] ... the log reports it');
$api->run('put name=kept id=1 data=anew');
$s->stop;
is(SlotmemServer::slurp("$state/$file.bad-1"), 'damaged',
    '[E3] ... and keeps it beside the new one');
is(slot("$state/$file", 1), 'anew', '[E3] ... which is stored');

# No state comes back from months ago.
unlink glob "$state/$file*";
$s->start;
is($api->run('dptr name=kept id=1')->{data}, '',
    '[E10] without the new file, nothing is restored from the old directory');
$s->stop;
$s->config($names);
$s->start;
is($api->run('dptr name=kept id=1')->{data}, '',
    '[E10] ... nor without the directive');
$s->stop;
$s->config($dir . $names);

# A damaged file in the old directory is reported, and renamed like any other.
unlink "$state/$file";
put_file($s->rundir . "/$file", 'old and damaged');
$s->log_mark;
$s->start;
is($s->log_only('SLOTMEM-11', 'error', $s->rundir . "/$file"), 1,
    '[E3] a damaged file in the old directory: one error line')
    or diag($s->log_since);
$api->run('put name=kept id=0 data=fresh');
$s->stop;
is(SlotmemServer::slurp($s->rundir . "/$file.old"), 'old and damaged',
    '[E10] ... and it is kept as .old');
is(slot("$state/$file", 0), 'fresh', '[B2] the new directory gets the state');

# A file that another server stores in the old directory stays there.
put_file($s->rundir . "/$file", 'another server\'s');
unlink "$state/$file";
open my $lock, '+<', $s->rundir . '/slotmem-shm.lock' or die $!;
lock_byte($lock, $file);
$s->log_mark;
$s->start;
$s->stop;
is($s->log_only('SLOTMEM-43', 'warn', 'kept', $s->rundir . "/$file",
    'another server'), 1, '[E10] a file of a live server is not renamed')
    or diag($s->log_since);
is(SlotmemServer::slurp($s->rundir . "/$file"), 'another server\'s',
    '[E10] ... and does not change');
close $lock;
unlink $s->rundir . "/$file";

# A path relative to ServerRoot, with a slash at the end; and a checkpoint.
mkdir "$root/other" or die $!;
$s->config("SlotmemPersistDir other/\nSlotmemCheckpointInterval 1\n"
        . "SlotmemTest post_config hurry ms=20\n$names");
unlink $s->rundir . "/$file";
$s->start;
$api->run('put name=kept id=3 data=rel');
$s->wait_until('a checkpoint', sub { slot("$root/other/$file", 3) eq 'rel' });
pass('[B2] a path relative to ServerRoot; checkpoints go there');
is(join(' ', glob $s->rundir . '/*persist'), '',
    '[B2] nothing is stored in DefaultRuntimeDir');

# The same segment by its relative name and by the path of its file.
my @same = $api->run("attach name=$root/other/slotmem-shm-kept.shm as=same",
    'dptr as=same id=3');
is($same[1]{data}, 'rel',
    '[C4] the absolute name of the same file is the same');
$s->stop;

# Another path to DefaultRuntimeDir is not another directory.
symlink $s->rundir, "$root/way" or die $!;
for my $paths ([ 'run', 'way' ], [ 'way', 'way' ], [ 'way', 'run' ]) {
    unlink glob $s->rundir . '/*persist*';
    $s->config("DefaultRuntimeDir $root/$paths->[0]\n"
            . "SlotmemPersistDir $root/$paths->[1]\n$create name=kept\n");
    $s->log_mark;
    $s->start;
    $api->run('put name=kept id=1 data=same');
    $s->stop;
    $s->start;
    is($api->run('dptr name=kept id=1')->{data}, 'same',
        "[E10] @$paths: the file is not taken for an old one");
    $s->graceful;
    $s->stop;
    is($s->log_count(qr/SLOTMEM-4[23]/), 0, '[E10] ... and no line reports one')
        or diag($s->log_since);
}
unlink glob $s->rundir . '/*persist*';

# State that could not be stored goes to the next directory, even if that has an
# older file.
mkdir "$root/$_", 0700 or die $! for qw(from to);
my %config = map { $_ => "SlotmemPersistDir $root/$_\n$create name=kept\n" }
    qw(from to);
$config{none} = "$create name=kept\n";
for my $change ([ 'from', 'to' ], [ 'from', 'none' ], [ 'none', 'to' ]) {
    my ($from, $to) = map { $_ eq 'none' ? $s->rundir : "$root/$_" } @$change;
    unlink glob "$from/*persist* $to/*persist*";
    $s->config($config{ $change->[0] });
    $s->start;
    $api->run('put name=kept id=1 data=old');
    $s->graceful;
    $api->run('put name=kept id=1 data=new');
    put_file("$from/$file", 'what cannot be moved away');
    mkdir "$from/$file.bad-$_" for 1 .. 4;
    $s->log_mark;
    $s->config($config{ $change->[1] });
    $s->graceful;
    is($api->run('dptr name=kept id=1')->{data}, 'new',
        "[B12] @$change: state that was not stored still exists");
    is($s->log_only('SLOTMEM-30', 'info', 'kept', "$from/$file"), 1,
        '[B12] ... from memory') or diag($s->log_since);
    $s->stop;
    is(slot("$to/$file", 1), 'new', '[B12] ... and is stored');
    rmdir "$from/$file.bad-$_" for 1 .. 4;
}
unlink glob $s->rundir . "/*persist* $root/from/*persist* $root/to/*persist*";

# So does state that was stored; an older file there is kept.
for my $change ([ 'from', 'to' ], [ 'from', 'none' ], [ 'none', 'to' ]) {
    my ($from, $to) = map { $_ eq 'none' ? $s->rundir : "$root/$_" } @$change;
    $s->config($config{ $change->[1] });
    $s->start;
    $api->run('put name=kept id=1 data=old');
    $s->stop;
    $s->config($config{ $change->[0] });
    $s->start;
    $api->run('put name=kept id=1 data=new');
    $s->log_mark;
    $s->config($config{ $change->[1] });
    $s->graceful;
    is($api->run('dptr name=kept id=1')->{data}, 'new',
        "[B12] @$change: state follows to the new directory");
    is($s->log_only('SLOTMEM-30', 'info', 'kept', "$from/$file"), 1,
        '[B12] ... from memory') or diag($s->log_since);
    $s->graceful;
    $s->stop;
    is(slot("$to/$file", 1), 'new', '[B12] ... and is stored there');
    my $kept = $change->[1] eq 'none' ? 'old' : 'bad-1';
    is(slot("$to/$file.$kept", 1), 'old', '[E9] ... an older file is kept');
    is(slot("$from/$file" . ($change->[0] eq 'none' ? '.old' : ''), 1), 'new',
        '[E10] ... and so is the one in the old directory');
    unlink glob $s->rundir
        . "/*persist* $root/from/*persist* $root/to/*persist*";
}

# The same through a symbolic link.
symlink "$root/other", "$root/lnk" or die $!;
$s->config("SlotmemPersistDir $root/lnk\n$create name=kept\n");
$s->start;
@same = $api->run("attach name=$root/lnk/slotmem-shm-kept.shm as=same",
    'dptr as=same id=3');
is($same[1]{data}, 'rel', '[C5] ... also through a symbolic link');
$s->stop;

# A good file in the old directory cannot be read for lack of descriptors:
# nothing is stored in the new directory, where it would hide that file.
unlink glob "$root/other/*persist*";
$s->config("$create name=kept\n");
$s->start;
$api->run('put name=kept id=1 data=good');
$s->stop;
$s->config("SlotmemPersistDir other\n$create name=kept emfile=1\n");
$s->log_mark;
$s->start;
$s->stop;
is($s->log_only('SLOTMEM-12', 'error', 'kept', $s->rundir . "/$file"), 1,
    '[E3] a file in the old directory that cannot be read: one error line')
    or diag($s->log_since);
is(join(' ', glob "$root/other/*persist*"), '',
    '[E3] ... and nothing is stored that would hide it');
$s->config("SlotmemPersistDir other\n$create name=kept\n");
$s->start;
is($api->run('dptr name=kept id=1')->{data}, 'good',
    '[E3] the next start restores it');
$s->stop;

unlike($s->log, qr/exit signal/, 'no child has crashed');
done_testing;
