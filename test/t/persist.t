# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The persisted file: its content, which files are accepted or refused, and
# where refused files go (contract, E1 and E3 to E5).

use strict;
use warnings;

use Digest::MD5 ();
use POSIX ();
use SlotmemApi;
use SlotmemFile;
use SlotmemServer;
use Test::More;

my $s   = SlotmemServer->new(servers => 1);
my $api = SlotmemApi->new($s);
my $run = $s->rundir;

my ($persist, $pregrab, $clear) = (1, 5, 9);
my %types = (
    $persist => 'persist',
    $pregrab => 'persist,pregrab',
    $clear   => 'persist,clearinuse'
);

sub path {
    my $name = shift;
    return "$run/slotmem-shm-$name.shm.persist";
}

sub put_file {
    my ($file, $bytes) = @_;
    open my $out, '>:raw', $file or die "$file: $!";
    print {$out} $bytes;
    close $out or die "$file: $!";
    return;
}

sub bytes {
    my $name = shift;
    return SlotmemServer::slurp(path($name));
}

sub create {
    my ($name, $size, $num, $type) = @_;
    return "SlotmemTest post_config create name=$name tag=$name size=$size"
        . " num=$num type=$types{$type // $persist}\n";
}

# The error lines since the log mark that name the file of a segment.
sub errors {
    my $name = shift;
    my $path = path($name);
    return grep { /\[slotmem_shm:error\].*\Q$path\E(?![-.\w])/ }
        split /\n/, $s->log_since;
}

# ---- our files ----

$s->config(create('plain', 16, 4) . create('pre', 16, 4, $pregrab)
        . create('clear', 16, 4, $clear) . create('odd', 7, 5)
        . create('nonum', 8, 0) . create('nosize', 0, 3)
        . create('many', 48, 3000, $pregrab)
        . "SlotmemTest post_config create name=volatile size=8 num=2\n"
        . "SlotmemTest post_config put name=clear id=0 data=config\n");
$s->start;
$api->run(
    'put name=plain id=0 data=a',   'put name=plain id=2 data=c',
    'poke name=plain id=3 data=d',  'fgrab name=pre id=3',
    'put name=pre id=3 data=last',  'poke name=pre id=1 data=kept',
    'put name=clear id=2 data=run', 'put name=odd id=4 data=1234567',
    'fgrab name=nosize id=1',       'put name=volatile id=0 data=x',
    'fgrab name=many id=0',         'fgrab name=many id=64',
    'fgrab name=many id=2999',      'put name=many id=2999 data=end',
);
$s->stop;

sub is_file {
    my ($name, $size, $num, $type, %want) = @_;
    my $file = SlotmemFile::decode(bytes($name), $size, $num);
    my $used = $want{used} || [];
    is($file->{free}, $num - @$used, "[E1] $name: number of free slots");
    is($file->{zero}, 1, "[E1] $name: four zero bytes");
    is_deeply($file->{used}, $used, "[E1] $name: in-use flags");
    is($file->{digest_ok}, 1, "[E1] $name: MD5");
    is("@$file{qw(size num type)}", "$size $num $type",
        "[E1] $name: description");
    is($file->{exact}, 1, "[E4] $name: the file has its exact length");
    my $slots = $want{slots} || {};
    is($file->{slots}[$_], $slots->{$_}, "[E1] $name: slot $_")
        for sort keys %$slots;
    is_deeply($file->{claims}, $want{claims}, "[E2] $name: run-time claims");
    is($file->{claims_ok}, 1, "[E2] $name: their MD5") if $want{claims};
    is((stat path($name))[2] & 07777, 0600, "$name: for its owner only");
    return;
}
is_file('plain', 16, 4, $persist, used => [0, 2],
    slots => { 0 => 'a', 1 => '', 2 => 'c', 3 => 'd' });
is_file('pre', 16, 4, $pregrab, used => [3],
    slots => { 1 => 'kept', 3 => 'last' });
is_file('clear', 16, 4, $clear, claims => [2],
    slots => { 0 => 'config', 2 => 'run' });
is_file('odd', 7, 5, $persist, used => [4], slots => { 4 => '1234567' });
is_file('nonum', 8, 0, $persist);
is_file('nosize', 0, 3, $persist, used => [1]);
is_file('many', 48, 3000, $pregrab, used => [0, 64, 2999],
    slots => { 2999 => 'end' });
ok(!-e path('volatile'), '[B2] a segment that is not PERSIST has no file');

# ---- the distributed module and ours, both ways ----

SKIP: {
    my $dso = SlotmemServer->apxs_query('LIBEXECDIR') . '/mod_slotmem_shm.so';
    skip 'no distributed module', 23 if !-f $dso;
    my $ours  = $s->{dso};
    my $theirs = sub { $s->{dso} = shift; return $s->config($s->config); };
    my $shape = create('plain', 16, 4) . create('pre', 16, 4, $pregrab)
        . create('clear', 16, 4, $clear);
    my @look = (
        'dump name=plain', 'info name=plain', 'dump name=pre',
        'doall name=pre',  'info name=pre',   'dump name=clear',
        'info name=clear'
    );
    my $seen = sub {
        my @got = $api->run(@look);
        return join '|', map { $_->{data} // $_->{visited} // $_->{free} } @got;
    };
    my $cell = sub { return join '', map { pack 'a16', $_ // '' } @_[0 .. 3] };
    my $expected = sub {
        my ($clear_free, @data) = @_;
        return join '|', map { s/\0+\z//r } $cell->('a', '', 'c', 'd'), 2,
            $cell->('', 'kept', '', 'last'), '3', 3, $cell->(@data),
            $clear_free;
    };

    # Ours to theirs. They have no run-time claims.
    $s->config($shape);
    $theirs->($dso);
    $s->start;
    is($seen->(), $expected->(4, 'config', '', 'run'),
        '[E1] the distributed module restores what we wrote');
    $s->stop;

    # Theirs, unchanged, to ours.
    my %old = map { $_ => bytes($_) } qw(plain pre);
    $theirs->($ours);
    $s->log_mark;
    $s->start;
    is(scalar(map { errors($_) } qw(plain pre clear)), 0,
        '[E1] we restore what it wrote: no error');
    $api->run('put name=clear id=1 data=mine');
    $s->stop;
    is(bytes($_), $old{$_}, "[E1] ... and write the same bytes: $_")
        for sort keys %old;

    # It makes changes: our section stays in the file but no longer fits.
    $theirs->($dso);
    $s->start;
    $api->run('put name=plain id=1 data=theirs', 'fgrab name=pre id=0',
        'put name=clear id=3 data=more');
    $s->stop;
    $theirs->($ours);
    $s->log_mark;
    $s->start;
    my @got = $api->run(@look);
    is($got[0]{data}, 'a' . "\0" x 15 . 'theirs' . "\0" x 10 . 'c' . "\0" x 15
            . 'd', '[E1] its changes are restored');
    is($got[3]{visited}, '0,3', '[E1] ... in-use flags too');
    is($got[6]{free}, 4, '[E2] claims that no longer fit do not count');
    is(scalar errors('clear'), 0, '[E2] ... which is not damage');
    $s->stop;

    # It shrinks a segment in place: the file keeps its length.
    my $three = create('shrunk', 16, 3);
    $s->config(create('shrunk', 16, 6));
    $theirs->($dso);
    $s->start;
    $api->run('put name=shrunk id=5 data=five');
    $s->stop;
    my $length = length bytes('shrunk');
    $s->config($three);
    $s->start;
    $api->run('put name=shrunk id=2 data=two');
    $s->stop;
    is(length bytes('shrunk'), $length, 'it leaves a stale tail');
    $theirs->($ours);
    $s->log_mark;
    $s->start;
    is($api->run('dptr name=shrunk id=2')->{data}, 'two',
        '[E4] the image before a stale tail is restored');
    is(scalar errors('shrunk'), 0, '[E4] ... without an error');
    $s->stop;
    is(length bytes('shrunk'), length SlotmemFile::encode(size => 16, num => 3),
        '[E4] ... and our file has its exact length');
}

# ---- files that are accepted, and files that are refused ----

sub wanted {
    my %of = @_;
    return SlotmemFile::encode(size => 16, num => 4,
        slots => ['zero', 'one', 'two', 'three'], used => [1, 2], %of);
}
my $good = wanted();

# Names and files; each is requested with 4 slots of 16 bytes. The type; then
# the slots in use and the content of slot 1 after the restore.
my %accepted = (
    good   => [$good],
    legacy => [wanted(legacy => 1)],
    count  => [wanted(free => 77)],
    unused => [wanted(used => []), $persist, 0],
    tail   => [$good . 'stale ' x 20],
    tailpre => [wanted(type => $pregrab) . "\0" x 300, $pregrab],
    longtail => [$good
            . substr(wanted(num => 9, used => [8]), length $good)],
    claims => [wanted(type => $clear, claims => [1, 3], used => []), $clear],
    noclaims => [wanted(type => $clear, used => []), $clear, 0],
    shortclaims => [substr(wanted(type => $clear, claims => [1], used => []),
            0, -1), $clear, 0],
    badclaims => [do {
            my $file = wanted(type => $clear, claims => [1], used => []);
            substr $file, -18, 1, "\1";
            $file;
        }, $clear, 0],
    # With bytes after its end it is not one of our files.
    tailclaims => [wanted(type => $clear, claims => [1], used => []) . 'x' x 9,
        $clear, 0],

    # The file has fewer slots than requested.
    grow1     => [SlotmemFile::encode(size => 16, num => 2,
            slots => ['zero', 'one'], used => [1]), $persist, 1],
    grow3     => [wanted(num => 3)],
    growpre   => [wanted(num => 3, type => $pregrab), $pregrab],
    growclear => [wanted(num => 3, type => $clear, claims => [0, 1],
            used => []), $clear],
    growtail  => [wanted(num => 3) . 'stale ' x 40],
);

# In-use flags other than 0 and 1.
{
    my $odd = substr wanted(), 0, 8 + 64 + 4;
    substr $odd, 8 + 64 + 1, 1, "\x07";
    $accepted{oddflags} = [$odd . Digest::MD5::md5($odd)
            . substr($good, 8 + 64 + 4 + 16)];
}

my %refused = (
    flip      => do { my $file = $good; substr $file, 20, 1, '!'; $file },
    flipmark  => do { my $file = $good; substr $file, 72, 1, "\1"; $file },
    flipcount => do { my $file = $good; substr $file, 0, 1, "\3"; $file },
    short     => substr($good, 0, 40),
    nomd5     => substr($good, 0, 8 + 64 + 4),
    halfmd5   => substr($good, 0, 8 + 64 + 4 + 8),
    partdesc  => substr($good, 0, -1),
    empty     => '',
    garbage   => join('', map { chr int rand 256 } 1 .. 500),
    text      => "not a slotmem file\n" x 50,
    size      => SlotmemFile::encode(size => 8, num => 4),
    sizesame  => SlotmemFile::encode(size => 8, num => 8),
    type      => wanted(type => $pregrab),
    descflip  => do { my $file = $good; substr $file, -4, 1, "\2"; $file },
    shrink    => wanted(num => 6),
    oldgrow   => wanted(num => 3, legacy => 1),
);

# Files that are accepted.
put_file(path($_), $accepted{$_}[0]) for keys %accepted;
$s->config(join '', map { create($_, 16, 4, $accepted{$_}[1]) }
        sort keys %accepted);
$s->log_mark;
$s->start;
for my $name (sort keys %accepted) {
    my (undef, undef, $used) = @{ $accepted{$name} };
    $used //= 2;
    my $line = $name =~ /grow/ ? 'E5' : $name =~ /claims/ ? 'E2' : 'E4';
    my ($slot, $last, $info) = $api->run("dptr name=$name id=1",
        "dptr name=$name id=3", "info name=$name");
    is($slot->{data}, 'one', "[$line] restored: $name");
    is($info->{free}, 4 - $used, "[$line] ... slots in use: $name");
    is($last->{data}, $name =~ /grow/ ? '' : 'three',
        "[$line] ... the last slot: $name");
    is(scalar errors($name), 0, "[$line] ... no error line: $name");
}
$s->restart;
$s->restart;
is(join(' ', glob "$run/*.bad-*"), '', '[E3] nothing is set aside');
is(SlotmemFile::decode(bytes($_), 16, 4)->{exact}, 1,
    "[E4][E5] our file has its exact length: $_")
    for sort keys %accepted;
$s->stop;

# Files that are refused: the segment is new, and the start moves nothing. The
# first store sets the old file aside; the second finds our own file.
my $inode = sub { join ' ', map { ($_, (lstat path($_))[1]) } @_ };

sub refuse {
    my ($more, @names) = @_;
    my $before = $inode->(@names);
    $s->config(join '', $more, map { create($_, 16, 4) } @names);
    $s->log_mark;
    $s->start;
    for my $name (@names) {
        my $line = $name eq 'shrink' ? 'E5' : 'E3';
        my ($dump, $info) = $api->run("dump name=$name", "info name=$name");
        is($dump->{zero}, 1, "[$line] refused, so the segment is new: $name");
        is($info->{free}, 4, "[$line] ... all free: $name");
        my @lines = errors($name);
        is($s->log_only('SLOTMEM-11', 'error', path($name)), 1,
            "[$line] ... one error line names the file: $name")
            or diag(@lines);
        note($lines[0] // '');
        like($lines[0] // '', qr/\.persist.*\w{3,}.*\w{2,}/,
            "[$line] ... and the reason: $name");
    }
    is($inode->(@names), $before, "[E3][B10] nothing is moved yet: @names");
    is(join(' ', map { glob path($_) . '.bad-*' } @names), '',
        "[E3][B10] ... nor set aside: @names");
    return;
}

sub store_instead {
    my @names = @_;
    $api->run(map { ("put name=$_ id=3 data=new") } @names);
    $s->log_mark;
    $s->restart;
    return;
}

sub stored_instead {
    my @names = @_;
    for my $name (@names) {
        is($api->run("dptr name=$name id=3")->{data}, 'new',
            "[E3] the state that replaced it is restored: $name");
    }
    is(scalar(map { errors($_) } @names), 0, "[E3] ... without error: @names");
    $s->restart;
    is(join(' ', glob "$run/*.bad-2"), '',
        "[E3] nothing else is set aside: @names");
    $s->stop;
    return;
}

# Files; and a segment during whose creation the process cannot open files.
my @names = sort keys %refused;
put_file(path($_), $refused{$_}) for @names;
put_file(path('resources'), $good);
refuse("SlotmemTest post_config create name=resources size=16 num=4"
        . " type=persist emfile=1\n", @names);
my ($dump) = $api->run('dump name=resources');
is($dump->{zero}, 1, '[E3] not read for lack of resources: a new segment');
is($s->log_only('SLOTMEM-12', 'error', path('resources')), 1,
    '[E3] ... one error line');
$api->run('put name=resources id=3 data=new');
store_instead(@names);
is(bytes('resources'), $good,
    '[E3] a file that could not be read is not replaced in that generation');
ok(!-e path('resources') . '.bad-1', '[E3] ... and not set aside');
for my $name (@names) {
    is(SlotmemServer::slurp(path($name) . '.bad-1'), $refused{$name},
        "[E3] the first store has set the old file aside: $name");
}
stored_instead(@names);

# A file that cannot be read, and objects that are not files.
my @odd = qw(unreadable directory link dangling);
put_file(path('unreadable'), $good);
chmod 0, path('unreadable');
mkdir path('directory') or die "directory: $!";
put_file(path('directory') . '/file', 'inside');
put_file("$run/target", $good);
symlink "$run/target", path('link') or die "link: $!";
symlink "$run/nowhere", path('dangling') or die "link: $!";
refuse('', @odd);
store_instead(@odd);
is(SlotmemServer::slurp(path('directory') . '.bad-1/file'), 'inside',
    '[E3] the first store sets aside a directory with its content');
is(readlink path('link') . '.bad-1', "$run/target", '[E3] ... a symbolic link');
is(SlotmemServer::slurp("$run/target"), $good,
    '[E3] ... a link, but not its target');
is(readlink path('dangling') . '.bad-1', "$run/nowhere",
    '[E3] ... a dangling link');
ok(!-e "$run/nowhere", '[E3] ... and nothing is written there');
chmod 0600, path('unreadable') . '.bad-1';
is(SlotmemServer::slurp(path('unreadable') . '.bad-1'), $good,
    '[E3] ... a file that could not be read');
stored_instead(@odd);

# A FIFO. A writer waits in open until somebody opens it for reading.
POSIX::mkfifo(path('fifo'), 0600) or die "fifo: $!";
my $was_opened = $s->root . '/fifo-was-opened';
defined(my $writer = fork) or die "fork: $!";
if (!$writer) {
    alarm 60;
    open my $out, '>', path('fifo') or POSIX::_exit(1);
    put_file($was_opened, '');
    POSIX::_exit(0);
}
refuse('', 'fifo');
ok(!-e $was_opened, '[E3] a FIFO is not even opened');
kill 'KILL', $writer;
waitpid $writer, 0;
store_instead('fifo');
ok(-p path('fifo') . '.bad-1', '[E3] the first store sets aside a FIFO');
stored_instead('fifo');

# Growing a lot, and shrinking, with run-time claims and with new slots.
$s->config(create('good', 16, 400) . create('growpre', 16, 70, $pregrab)
        . create('growclear', 16, 6, $clear) . create('grow3', 16, 2));
$s->log_mark;
$s->start;
my @got = $api->run('dump name=good', 'info name=good', 'doall name=growpre',
    'info name=growpre', 'info name=growclear', 'dump name=grow3',
    'grab name=growpre', 'grab name=growpre', 'grab name=growpre');
is($got[0]{data}, join('', map { pack 'a16', $_ } qw(zero one two)) . 'three',
    '[E5] grown: the slots keep their places, the others are zero');
is($got[1]{free}, 398, '[E5] ... and free');
is($got[2]{visited}, '1,2', '[E5] PREGRAB: the in-use flags');
is($got[3]{free}, 68, '[E5] PREGRAB: the number of free slots');
is($got[4]{free}, 4, '[E5] CLEARINUSE: run-time claims');
is($got[5]{zero}, 1, '[E5] shrunk: a new segment');
is(join(' ', map { $_->{id} } @got[6 .. 8]), '0 3 4',
    '[E5][D6] PREGRAB: grab continues from there');
is($s->log_only('SLOTMEM-11', 'error', path('grow3')), 1,
    '[E5][E3] shrunk: one error line');
$s->stop;
ok(-e path('grow3') . '.bad-1', '[E5][E3] ... and the old file is set aside');

# At a restart it is not the file that is restored. The bytes of these shapes
# could be those of the next ones, apart from the digest and description.
$s->config(create('longer', 4, 4) . create('single', 16, 1)
        . create('more', 7, 4, $pregrab));
$s->start;
$api->run('put name=longer id=0 data=abcd', 'put name=single id=0 data=abcd',
    'fgrab name=more id=1', 'put name=more id=1 data=abcd');
$s->config(create('longer', 8, 4) . create('single', 32, 1)
        . create('more', 7, 6, $pregrab));
$s->log_mark;
$s->graceful;
@got = $api->run('dump name=longer', 'dump name=single', 'doall name=more');
for my $name ('longer', 'single') {
    is((shift @got)->{zero}, 1,
        "[E3] another shape of the same length at a restart: $name");
    is($s->log_only('SLOTMEM-11', 'error', path($name)), 1,
        '[E3] ... one error line');
}
is($got[0]{visited}, 1, '[E5] grown at a restart: the in-use flags');
$s->stop;
ok(-e path($_) . '.bad-1', "[E3] ... and the old file is set aside: $_")
    for 'longer', 'single';

# ---- refused files, repeatedly ----

$s->config(create('again', 16, 4));
my $first_kept;
for my $round (1 .. 6) {
    put_file(path('again'), "damaged $round");
    $s->log_mark;
    $s->start;
    $s->stop;
    my $kept = path('again') . '.bad-' . (($round - 1) % 4 + 1);
    my @said = $s->log_lines('SLOTMEM-15', 'warn', 'again', path('again'),
        $kept);
    is(scalar @said, 1, "[E3] round $round: a line has its new path");
    my $text = ($said[0] // '') =~ s/^.*(?=SLOTMEM-)//r =~ s/\Q$kept\E/KEPT/r;
    $first_kept //= $text;
    is($text ne $first_kept ? 1 : 0, $round > 4 ? 1 : 0,
        "[E3] round $round: ... and when an old one is replaced");
}
is_deeply(
    [map { SlotmemServer::slurp(path('again') . ".bad-$_") } 1 .. 4],
    ['damaged 5', 'damaged 6', 'damaged 3', 'damaged 4'],
    '[E3] four are kept; then the oldest is replaced'
);
ok(!-e path('again') . '.bad-5', '[E3] ... no fifth');

# The file cannot be set aside: the store fails, and the file stays.
$s->config(create('stuck', 16, 4));
put_file(path('stuck'), 'damaged');
for my $number (1 .. 4) {
    mkdir path('stuck') . ".bad-$number" or die $!;
    put_file(path('stuck') . ".bad-$number/x", 'x');
}
$s->start;
$api->run('put name=stuck id=0 data=new');
$s->log_mark;
$s->stop;
is(bytes('stuck'), 'damaged', '[E3] if it cannot be set aside, it stays');
is($s->log_only('SLOTMEM-34', 'error', path('stuck')), 1,
    '[E3] ... and one line reports it')
    or diag($s->log_since);
unlink path('stuck') . '.bad-3/x';
rmdir path('stuck') . '.bad-3';
$s->start;
$api->run('put name=stuck id=0 data=newer');
$s->stop;
is(SlotmemServer::slurp(path('stuck') . '.bad-3'), 'damaged',
    '[E3] the next store tries again');
is(SlotmemFile::decode(bytes('stuck'), 16, 4)->{slots}[0], 'newer',
    '[E3] ... and stores');

unlike($s->log, qr/exit signal/, 'no child has crashed');
is(join(' ', glob "$run/*.tmp*"), '', 'no temporary file is left');

done_testing;
