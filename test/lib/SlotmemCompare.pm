# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Compares what two runs of the suites say about each line of the contract, and
# makes the table of that. It runs no server; test/compare does.
#
#   my @ids = contract_ids($path);        # of docs/contract.md, in its order
#   my $known = read_known($path);        # of test/compatibility.txt:
#       # id => { text, chance, only }
#   my $run = read_run($directory);          # of TAP files:
#       # suite => [{ key, name, ids, ok }]; undef for a skipped suite; ok is
#       # undef for a skipped test, which has no name
#   merge_run($run, $again);              # a failure in either run counts
#   my $lines = judge($ours, $theirs, $known, @ids);
#       # id => { ours, compared, differ, elsewhere, failed, verdict, faults }
#   my @rows = rows($lines, $known, @ids);
#   my @rows = read_rows($path), write_rows($path, $made_with, @rows);
#       # between the two markers of docs/compatibility.md
#
# An assertion counts for each line that its name cites. If it fails on the
# other module, one of these lines must have a known difference; the lines that
# have none refer to it.

package SlotmemCompare;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(basename);
use TAP::Parser;

our @EXPORT_OK = qw(contract_ids judge merge_run read_known read_rows read_run
    rows row_faults write_rows);

my ($begin, $end) = ('<!-- table -->', '<!-- end of table -->');

sub slurp {
    my $path = shift;
    open my $in, '<', $path or die "$path: $!\n";
    local $/;
    return scalar(<$in>) // '';
}

sub contract_ids {
    return slurp(shift) =~ /^\*\*([A-Z]\d+)\*\* /mg;
}

# ---- the known differences ----

sub read_known {
    my $path = shift;
    my %known;
    for my $block (split /\n\s*\n/, slurp($path)) {
        $block =~ s/^#.*\n?//mg;
        next if $block !~ /\S/;
        my ($id, $mark, $text) = $block =~ /\A([A-Z]\d+)([~!]?) (.*)\z/s
            or die "$path: not 'ID text': $block\n";
        die "$path: $id stands twice\n" if $known{$id};
        $text =~ s/\s+/ /g;
        $text =~ s/ \z//;
        $known{$id} =
            { text => $text, chance => $mark eq '~', only => $mark eq '!' };
    }
    return \%known;
}

# ---- the output of a run ----

sub read_suite {
    my $parser = TAP::Parser->new({ tap => slurp(shift) });
    my (@found, %times);
    while (my $result = $parser->next) {
        return undef if $result->is_plan && $result->has_skip;
        next if !$result->is_test;
        push @found, { key => '', ids => [], ok => undef } if $result->has_skip;
        next if $result->has_skip;
        my $name = $result->description =~ s/^- //r;
        my %ids  = map { $_ => 1 } $name =~ /\[([A-Z]\d+)\]/g;
        push @found,
            {
            key  => $name . '#' . $times{$name}++,
            name => $name,
            ids  => [sort keys %ids],
            ok   => $result->is_ok ? 1 : 0
            };
    }
    return \@found;
}

sub read_run {
    my $directory = shift;
    return { map { basename($_) => read_suite($_) } glob "$directory/*.t" };
}

sub merge_run {
    my ($run, $again) = @_;
    for my $suite (grep { $again->{$_} } keys %$again) {
        my %ok = map { $_->{key} => $_->{ok} } @{ $again->{$suite} };
        $_->{ok} &&= $ok{ $_->{key} } // 0
            for grep { defined $_->{ok} } @{ $run->{$suite} };
    }
    return;
}

# ---- the verdict ----

# Pairs each assertion of ours with its result on the other module: 1; 0 if it
# fails or is not reached; or undef if it cannot be tested there, because the
# suite was skipped, or a part of it that is as large as what is missing.
sub pairs {
    my ($ours, $theirs) = @_;
    my @pairs;
    for my $suite (sort keys %$ours) {
        my @tests = grep { defined $_->{ok} } @{ $ours->{$suite} || [] };
        my $other = $theirs->{$suite};
        my %ok    = map { $_->{key} => $_->{ok} } @{ $other || [] };
        my $skipped = grep { !defined $_->{ok} } @{ $other || [] };
        my $missing = grep { !exists $ok{ $_->{key} } } @tests;
        my $default =
              !exists $theirs->{$suite}     ? 0
            : $other && $missing > $skipped ? 0
            :                                 undef;
        push @pairs, map {
            +{  %$_,
                suite  => $suite,
                theirs => exists $ok{ $_->{key} } ? $ok{ $_->{key} } : $default
            }
        } @tests;
    }
    return @pairs;
}

sub judge {
    my ($ours, $theirs, $known, @ids) = @_;
    my %line = map {
        $_ => { map({ $_ => 0 } qw(ours compared differ elsewhere)),
            see => {}, faults => [], failed => [] }
    } @ids;
    for my $pair (pairs($ours, $theirs)) {
        my @here = grep { $line{$_} } @{ $pair->{ids} };
        my @why  = grep { $known->{$_} && !$known->{$_}{only} } @here;
        my $bad  = defined $pair->{theirs} && !$pair->{theirs};
        for my $id (@here) {
            my $line = $line{$id};
            $line->{ours}++;
            push @{ $line->{failed} }, "$pair->{suite}: $pair->{name}"
                if !$pair->{ok};
            $line->{compared}++ if defined $pair->{theirs};
            next if !$bad;
            if (!@why) {
                push @{ $line->{faults} }, "$pair->{suite}: $pair->{name}";
            }
            if ($known->{$id} || !@why) {
                $line->{differ}++;
            }
            else {
                $line->{elsewhere}++;
                $line->{see}{$_} = 1 for @why;
            }
        }
    }
    verdict($line{$_}, $known->{$_}) for @ids;
    return \%line;
}

sub verdict {
    my ($line, $known) = @_;
    my $shown = $line->{compared} - $line->{elsewhere} > 0;
    $line->{verdict} =
          @{ $line->{failed} } ? 'different'
        : !$shown              ? 'not compared'
        : $line->{differ}      ? 'ours better'
        :                        'same';
    return;
}

# Finds the faults: unexpected differences, and known ones that do not occur.
sub row_faults {
    my ($lines, $known, @ids) = @_;
    my @faults;
    for my $id (@ids) {
        my ($line, $what) = ($lines->{$id}, $known->{$id});
        push @faults, map { "$id: fails on our module: $_" }
            @{ $line->{failed} };
        push @faults, map { "$id: no known difference: $_" }
            @{ $line->{faults} };
        push @faults, "$id: a difference is known, but none was seen"
            if $what && !$what->{only} && !$line->{differ};
        push @faults, "$id: nothing was compared, and no reason is given"
            if $line->{verdict} eq 'not compared' && !$what;
        push @faults, "$id: was compared after all"
            if $what && $what->{only} && $line->{compared};
    }
    my %is = map { $_ => 1 } @ids;
    push @faults,
        map { "$_: no such line" } grep { !$is{$_} } sort keys %$known;
    return @faults;
}

# ---- the table ----

sub row {
    my ($id, $line, $what) = @_;
    my $differ = $line->{verdict} eq 'not compared' ? '-' : $line->{differ};
    $differ = 'some' if $differ && $what && $what->{chance};
    my $only = $line->{ours} - $line->{compared};
    my $text = $what ? $what->{text} : '';
    if ($line->{elsewhere}) {
        my $see = join ', ', sort keys %{ $line->{see} };
        $text .= ($text ? ' ' : '') . "(Shared assertions that differ:"
            . " $line->{elsewhere}, see $see.)";
    }
    return "| $id | $line->{verdict} | $line->{compared} | $differ |"
        . " $only | $text |";
}

sub rows {
    my ($lines, $known, @ids) = @_;
    return map { row($_, $lines->{$_}, $known->{$_}) } @ids;
}

sub read_rows {
    my ($table) = slurp(shift) =~ /^\Q$begin\E\n(.*)^\Q$end\E$/ms
        or die "no table between its markers\n";
    return grep { /^\| [A-Z]\d+ \|/ } split /\n/, $table;
}

sub write_rows {
    my ($path, $made_with, @rows) = @_;
    my $table = join "\n", '', "Made with $made_with.", '',
        '| Line | Verdict | Compared | Differ | Ours only |'
        . ' What the distributed module does |',
        '|---|---|---|---|---|---|', @rows, '', '';
    my $text = slurp($path);
    $text =~ s/^(\Q$begin\E\n).*^(\Q$end\E)$/$1$table$2/ms
        or die "$path: no markers\n";
    open my $out, '>', $path or die "$path: $!\n";
    print {$out} $text;
    close $out or die "$path: $!\n";
    return;
}

1;
