# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# A consumer that knows only the API of the module, across restarts and in
# several children (test/c-modules/slotmem_consumer). It creates its segments in
# the last post_config hook of both passes, so every assertion depends on B6.

use strict;
use warnings;

use SlotmemApi;
use SlotmemServer;
use Test::More;

use constant {
    METRICS => 4,
    ROWS    => 8,
    LOTS    => 4000,    # counts per request
    RACES   => 5,
};

# Apache::Test does not load it into its own server, so it is built here.
my $build = $ENV{SLOTMEM_CONSUMER};
my $apxs  = $ENV{APXS} || 'apxs';
my $made  = `cd $build && $apxs -c mod_slotmem_consumer.c 2>&1`;
die $made if $? != 0;

my $other = SlotmemServer->free_port;
my $s     = SlotmemServer->new(testmod => 0, servers => 3, config => <<"EOT");
LoadModule slotmem_consumer_module $build/.libs/mod_slotmem_consumer.so
Listen 127.0.0.1:$other
<VirtualHost 127.0.0.1:$other>
</VirtualHost>
<Location /slotmem>
    SetHandler slotmem-consumer
</Location>
EOT
my $api = SlotmemApi->new($s);

# Sends a request that this child answers.
sub in_child {
    my ($pid, $query) = @_;
    for (1 .. 500) {
        my $answer = $api->run("$query&pid=" . ($pid // 0));
        return $answer if !exists $answer->{here};
    }
    die "child $pid does not answer\n";
}

# Asks each child, one after the other; returns the values of this key.
sub in_each {
    my ($key, $query) = @_;
    my @pids = $s->children or return 'no child';
    return map { in_child($_, $query)->{$key} // 'nothing' } @pids;
}

# Sends requests at the same time; returns how many succeeded.
sub at_once {
    my @queries = @_;
    return scalar grep { $_ && $_->[0]{status} eq 'APR_SUCCESS' }
        $api->together(map { [$_] } @queries);
}

# $total counts, distributed over the slots.
sub evenly {
    my ($total, $slots) = @_;
    return join ' ', ($total / $slots) x $slots;
}

sub metrics {
    my $what = shift;
    my @pids = $s->children;
    cmp_ok(scalar @pids, '>', 1, "[B6] several children, $what");
    $api->check('do=count', { counts => evenly(0, METRICS), num => METRICS },
        "[B6][B1] metrics created in both passes start at 0, $what");
    my @counts = in_each('counts', 'do=count&n=' . LOTS);
    is($counts[-1], evenly(LOTS * @pids, METRICS),
        "[B6][B4][D4] all children count in them, without attach, $what");
    is(at_once(('do=count&n=' . LOTS) x 4), 4, "[B6][B4] ... at once, $what");
    is_deeply([in_each('counts', 'do=count')],
        [(evenly(LOTS * (@pids + 4), METRICS)) x @pids],
        "[B6][B4] ... and all see the same, $what");
    $api->check('do=metrics', { passed => 0, free => METRICS },
        "[B6][D4][D8][D9] dptr grabs no slot, $what");
    return;
}

# Puts rows, starting at row $id; returns the rows with the new content.
sub put_rows {
    my ($pid, $what, $id, $num, @rows) = @_;
    my $text = substr($what, 0, 4) . '-';
    $api->same(in_child($pid, "do=put&id=$id&rows=$num&text=$text"),
        {}, "[B6][B5][D5] put of $num rows, starting at $id, $what");
    $rows[$_] = "$text$_:0" for $id .. $id + $num - 1;
    return @rows;
}

sub not_beyond {
    my $what = shift;
    my @ops;
    for my $beyond ([0, ROWS + 1], [ROWS - 3, 4], [ROWS, 1], [ROWS, 0]) {
        my ($id, $num) = @$beyond;
        push @ops, map { "do=$_&id=$id&rows=$num&text=no" } qw(put get);
    }
    is_deeply([map { $api->run($_)->{status} } @ops], [('APR_EINVAL') x @ops],
        "[B6][D5] put and get of rows beyond the end, $what");
    return;
}

# Returns the rows at the end, each as "text:count".
sub table {
    my ($what, @rows) = @_;
    my @pids = $s->children;
    my ($writer, $reader) = @pids;
    $api->same(in_child($reader, 'do=get&id=0&rows=' . ROWS),
        { rows => "@rows " }, "[B6][B2][D5] the table in one call, $what");
    @rows = put_rows($writer, $what, 2,        3, @rows);
    @rows = put_rows($writer, $what, ROWS - 3, 3, @rows);
    not_beyond($what);
    is_deeply([in_each('passed', 'do=bump')], [(ROWS) x @pids],
        "[B6][D8] doall visits all rows, in each child, $what");
    is(at_once(('do=bump') x 4), 4, "[B6][D8] ... and at once, $what");
    s/:(\d+)/':' . ($1 + @pids + 4)/e for @rows;
    is_deeply([in_each('rows', 'do=get&id=0&rows=' . ROWS)],
        [("@rows ") x @pids],
        "[B6][B4][D5] each child reads what all have written, $what");
    my ($text) = $rows[4] =~ /(.*):/;
    $api->check("do=find&text=$text", { status => 'APR_EEXIST', passed => 4 },
        "[B6][D8] the callback's code ends doall and is returned, $what");
    $api->check('do=get&id=3&rows=2', { rows => "@rows[3, 4] " },
        "[B6][D5] get of two rows, $what");
    return @rows;
}

# Names that are not in the configuration.
sub named {
    my $what = shift;
    my $make = 'do=create&size=4&num=2';
    my @pids = $s->children;
    is_deeply([in_each('inst', 'do=attach&name=same')],
        [('null') x @pids],
        "[B6][B1][B8] no request has created this name yet, $what");

    # The same name from all children; their own names; and names that several
    # children create at once. A later look counts nothing.
    my @counts = in_each('counts', "$make&name=same&n=" . LOTS);
    is_deeply(\@counts,
        [map { evenly(LOTS * $_, 2) } 1 .. @pids],
        "[B6][B8][C4] create of the same name in each child, $what");
    in_child($_, "$make&name=own-$_&n=" . 2 * $_) for @pids;
    is_deeply(
        [map { in_each('counts', "do=attach&name=own-$_") } @pids ? @pids : 0],
        [map { ("$_ $_") x @pids } @pids],
        "[B6][B8] a name of each child's own, attached by all, $what");
    my (@got, @want);
    for my $race (1 .. RACES) {
        at_once(("$make&name=race$race&n=" . LOTS) x 4);
        push @got,  in_each('counts', "do=attach&name=race$race");
        push @want, (evenly(LOTS * 4, 2)) x @pids;
    }
    is_deeply(\@got, \@want,
        "[B6][B8] names that several create at once: no count is lost, $what");
    my %slots = (same => 2, 'consumer-metrics' => METRICS);
    for my $name (sort keys %slots) {
        $api->check("do=create&name=$name&size=4&num=99",
            { inst => 'set', num => $slots{$name} },
            "[B6][C4] $name with more slots than exist, $what");
        $api->check("do=create&name=$name&size=3&num=2",
            { inst => 'null', status => 'APR_EINVAL' },
            "[B6][C4] $name with another item_size, $what");
    }
    return;
}

# In the foreground, so that the parent's exit status is known.
my @rows = (':0') x ROWS;
$s->start('-DFOREGROUND');
for my $what (qw(start graceful restart)) {
    $s->$what if $what ne 'start';
    metrics($what);
    @rows = table($what, @rows);
    named($what);
}
$? = -1;
$s->stop;
is($?, 0, '[B6] the parent exits normally');
unlike($s->log, qr/exit signal|seg fault|core dump|AH0005[12]|is lost/i,
    '[B6][B4] no process has crashed, and each child found the table');
$s->start;
$api->check('do=get&id=0&rows=' . ROWS, { rows => "@rows " },
    '[B6][B2] the table, after a stop');
$s->stop;

done_testing;
