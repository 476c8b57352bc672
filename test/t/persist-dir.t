# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# SlotmemPersistDir: the folder of persisted files with relative names
# (contract, B2, B10, C2 and C3).

use strict;
use warnings;

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
my $folder = "$root/state";
my $create = 'SlotmemTest post_config create size=16 num=4 type=persist';
my $names  = "$create name=kept\n$create name=$root/absolute\n";
my $dir    = "SlotmemPersistDir $folder\n";
my $file   = 'slotmem-shm-kept.shm.persist';
mkdir $folder or die "$folder: $!";

sub put_file {
    my ($path, $bytes) = @_;
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} $bytes;
    close $out or die "$path: $!";
    return;
}

# Everything about the files of a folder.
sub snapshot {
    my $in = shift;
    return join "\n", map {
        my @stat = Time::HiRes::stat($_);
        join ' ', $_, @stat[1, 2, 7, 9, 10], SlotmemServer::slurp($_)
    } grep { !/httpd\.pid/ } sort glob "$in/*";
}

sub slot {
    my ($path, $id) = @_;
    return SlotmemFile::decode(SlotmemServer::slurp($path), 16, 4)
        ->{slots}[$id] // '';
}

# ---- folders that are refused ----

put_file("$root/file", '');
mkdir "$root/readonly";
mkdir "$root/world";
mkdir "$root/noexec";
chmod 0555,  "$root/readonly";
chmod 0777,  "$root/world";
chmod 0600,  "$root/noexec";

# The system's reason, if it is the system that refuses; the command that helps,
# if there is one; for a file neither.
my %bad = (
    'a file' => ["$root/file", qr/^(?!.*(?:[Nn]o such|denied|chmod))/],
    'missing'               => ["$root/missing",  qr/No such file/],
    'missing parent'        => ["$root/a/b",      qr/No such file/],
    'beyond a file'         => ["$root/file/x",   qr/Not a directory/],
    'not writable'          => ["$root/readonly", qr/denied/],
    'not searchable'        => ["$root/noexec",   qr/denied/],
    'writable by everybody' => ["$root/world",    qr/chmod o-w/],
);
for my $what (sort keys %bad) {
    my ($path, $why) = @{ $bad{$what} };
    $s->config("SlotmemPersistDir $path\n$names");
    my ($code, $output) = $s->configtest;
    isnt($code, 0, "$what: httpd -t says it is an error");
    my @error =
        ('SLOTMEM-20', 'config', 'SlotmemPersistDir', $path, $why);
    is(SlotmemServer->said($output, @error), 1,
        '... names directive and folder, and says why');
    my $started = $s->start_fails;
    ok(defined $started, '... and the server does not start');
    is(SlotmemServer->said($started // '', @error), 1,
        '... with the same line');
}
is(snapshot("$root/world"), '', '[B10] nothing was written there');
$s->config("<VirtualHost 127.0.0.1:9>\n$dir</VirtualHost>\n");
my ($code, $output) = $s->configtest;
isnt($code, 0, 'in a virtual host it is an error');
like($output, qr/SlotmemPersistDir/, '... that names it');

# ---- folders that are accepted ----

chmod 0770, "$root/world";
$s->config("SlotmemPersistDir $root/world\n$names");
($code, $output) = $s->configtest;
is($code, 0, 'writable by the group: accepted') or diag($output);
is(SlotmemServer->said($output, 'SLOTMEM-06', 'warn', 'SlotmemPersistDir',
    "$root/world"), 1, '... with a warning');
chmod 01777, "$root/world";
($code, $output) = $s->configtest;
is($code, 0, 'writable by everybody, but sticky: accepted') or diag($output);
$s->config($dir . $names);
($code, $output) = $s->configtest;
is($code, 0, 'writable by its owner only: accepted');
unlike($output, qr/warn/, '... with no warning');
$s->config($names);
chmod 0777, $s->rundir;
($code, $output) = $s->configtest;
is($code, 0, 'the default folder is not checked');
chmod 0755, $s->rundir;

# ---- where files are ----

# First in the default folder; then the directive is set.
$s->start;
$api->run('put name=kept id=1 data=run', "put name=$root/absolute id=1 data=a");
$s->stop;
is(slot($s->rundir . "/$file", 1), 'run', '[C2] without it: DefaultRuntimeDir');
my $old = snapshot($s->rundir);
$s->config($dir . $names);
($code, $output) = $s->configtest;
($code, $output) = $s->run_args('-S');
is(snapshot($folder), '', '[B10] -t and -S write nothing into the new folder');
$s->log_mark;
$s->start;
is($api->run('dptr name=kept id=1')->{data}, 'run',
    '[B2] no file in the new folder yet: the one in the old is restored');
is($s->log_only('SLOTMEM-10', 'info', 'kept', 4, 4, $s->rundir . "/$file"),
    1, '[B2] ... and a line names it') or diag($s->log_since);
is($api->run("dptr name=$root/absolute id=1")->{data}, 'a',
    '[C3] absolute names are where they were');
$s->graceful;
is(slot("$folder/$file", 1), 'run',
    '[B2] a segment that nobody changed is stored in the new folder too');
$api->run('put name=kept id=2 data=state',
    "put name=$root/absolute id=2 data=b");
$s->stop;
is(slot("$folder/$file", 2), 'state', '[B2] then it is stored in the new one');
is(slot("$root/absolute.persist", 2), 'b',
    '[C3] absolute names where they were');
ok(!-e "$folder/absolute.persist", '[C3] ... and not in the folder');
is(snapshot($s->rundir), $old, '[B2] the old file stays as it was');
is((stat "$folder/$file")[2] & 07777, 0600, 'the file is for its owner only');
is(join(' ', map { s{.*/}{}r } sort glob "$folder/*"),
    "$file slotmem-shm.lock", 'the folder has the file and the lock file');

# From then on the old one does not matter.
$s->start;
my @got = $api->run('dptr name=kept id=1', 'dptr name=kept id=2');
is("$got[0]{data} $got[1]{data}", 'run state', '[B2] the new one is restored');
$s->restart;
is($api->run('dptr name=kept id=2')->{data}, 'state',
    '[B2] ... also at a restart');
$s->stop;
put_file("$folder/$file", 'damaged');
$s->log_mark;
$s->start;
is($api->run('dptr name=kept id=1')->{data}, '',
    '[E3] a damaged file there is not made good from the old folder');
is($s->log_only('SLOTMEM-11', 'error', "$folder/$file"), 1,
    '[E3] ... it says so');
$api->run('put name=kept id=1 data=anew');
$s->stop;
is(SlotmemServer::slurp("$folder/$file.bad-1"), 'damaged',
    '[E3] ... and keeps it beside the new one');
is(slot("$folder/$file", 1), 'anew', '[E3] ... which is stored');
is(snapshot($s->rundir), $old, '[B2] the old file stays as it was');

# A damaged file in the old folder is reported, and is not touched.
unlink "$folder/$file";
put_file($s->rundir . "/$file", 'old and damaged');
$old = snapshot($s->rundir);
$s->log_mark;
$s->start;
is($s->log_only('SLOTMEM-11', 'error', $s->rundir . "/$file"), 1,
    '[E3] a damaged file in the old folder: one error line')
    or diag($s->log_since);
$api->run('put name=kept id=0 data=fresh');
$s->stop;
is(snapshot($s->rundir), $old, '[E3] ... and it stays as it was');
is(slot("$folder/$file", 0), 'fresh', '[B2] the new folder gets the state');

# Relative to ServerRoot, with a slash at the end; with a checkpoint.
mkdir "$root/other" or die $!;
$s->config("SlotmemPersistDir other/\nSlotmemCheckpointInterval 1\n"
        . "SlotmemTest post_config hurry ms=20\n$names");
unlink $s->rundir . "/$file";
$s->start;
$api->run('put name=kept id=3 data=rel');
$s->wait_until('a checkpoint', sub { slot("$root/other/$file", 3) eq 'rel' });
pass('[B2] a path relative to ServerRoot; checkpoints go there');
is(join(' ', glob $s->rundir . '/*persist*'), '',
    '[B2] nothing is stored in DefaultRuntimeDir');

# One name, by its own and by the path of its file.
my @same = $api->run("attach name=$root/other/slotmem-shm-kept.shm as=same",
    'dptr as=same id=3');
is($same[1]{data}, 'rel',
    '[C4] the absolute name of the same file is the same');
$s->stop;

# A good file in the old folder that cannot be read for want of descriptors:
# nothing is put into the new folder, where it would hide that one.
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
    '[E3] a file in the old folder that cannot be read: one error line')
    or diag($s->log_since);
is(join(' ', glob "$root/other/*persist*"), '',
    '[E3] ... and nothing is stored that would hide it');
$s->config("SlotmemPersistDir other\n$create name=kept\n");
$s->start;
is($api->run('dptr name=kept id=1')->{data}, 'good',
    '[E3] the next start restores it');
$s->stop;

unlike($s->log, qr/exit signal/, 'no child has crashed');
chmod 0755, map { "$root/$_" } qw(readonly noexec);

done_testing;
