# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# Writes and reads the persisted file of a segment independently of the module.
# docs/contract.md, section E, has the layout.
#
#   my $bytes = SlotmemFile::encode(size => 16, num => 4, type => 1,
#       slots => ['a', 'b'], used => [0, 2]);
#       # also: free => the number to write instead of the right one;
#       # claims => [ids], the run-time claims; legacy => 1, ends at the MD5
#   my $file = SlotmemFile::decode($bytes, 16, 4);
#       # free, slots, used, size, num, type, digest_ok, exact; for a file
#       # with a section: claims, words (by key, then by name), labels, and
#       # claims_ok, which says that the section and its end are right
#   my ($size, $num, $type) = SlotmemFile::shape($bytes);
#       # from the end of a file with a section; otherwise ()
#   my $image = SlotmemFile::image($bytes, 16, 4);
#       # the part that all modules share, in hex; short if the file is short

package SlotmemFile;

use strict;
use warnings;

use Config;
use Digest::MD5 qw(md5);

use constant { PERSIST => 1, PREGRAB => 4, CLEARINUSE => 8 };
use constant { MAGIC => 0x534c4d43, VERSION => 2 };
use constant { CLAIMS => 0x534d4c43, WORDS => 0x53445257, LABELS => 0x534c424c };

my $description = $Config{ptrsize} == 8 ? 'Q L L' : 'L L L x4';

# Converts a list of ids to one byte per slot, and back.
sub flags {
    my ($num, @ids) = @_;
    my @flags = (0) x $num;
    @flags[@ids] = (1) x @ids;
    return pack 'C*', @flags;
}

sub ids {
    my @flags = unpack 'C*', shift;
    return [grep { $flags[$_] } 0 .. $#flags];
}

# Makes our section, which follows the image: the claims, other chunks ([tag,
# bytes], ...) and the end.
sub section {
    my ($image, %of) = @_;
    my $bytes = $image . pack 'L L', MAGIC, $of{version} // VERSION;
    for ([CLAIMS, flags($of{num}, @{ $of{claims} })], @{ $of{chunks} || [] }) {
        my ($tag, $content) = @$_;
        $bytes .= pack('L L Q', $tag, 0, length $content) . $content;
    }
    $bytes .= pack 'L L Q L L Q', MAGIC, $of{version} // VERSION,
        @of{qw(size num type)}, length($bytes) + 48;
    return substr($bytes, length $image) . md5($bytes);
}

# Returns the chunks of a section by tag, or undef if it is malformed.
sub chunks {
    my $bytes = shift;
    my %chunks;
    while (length $bytes) {
        return if length $bytes < 16;
        my ($tag, $zero, $length) = unpack 'L L Q', $bytes;
        return if $zero || $length > length($bytes) - 16;
        $chunks{$tag} = substr $bytes, 16, $length;
        $bytes = substr $bytes, 16 + $length;
    }
    return \%chunks;
}

# Records of words, by key: { name => value, ... }.
sub records {
    my @strings = split /\0/, shift, -1;
    my %records;
    while (@strings > 1) {
        my $key = shift @strings;
        my %pairs;
        while (@strings && length $strings[0]) {
            my ($name, $value) = splice @strings, 0, 2;
            $pairs{$name} = $value;
        }
        shift @strings;
        $records{$key} = \%pairs;
    }
    return \%records;
}

sub encode {
    my %of    = (slots => [], used => [], type => PERSIST, @_);
    my $free  = $of{free} // $of{num} - @{ $of{used} };
    my $bytes = pack 'L x4', $free;
    $bytes .= pack "a$of{size}", $of{slots}[$_] // '' for 0 .. $of{num} - 1;
    $bytes .= flags($of{num}, @{ $of{used} });
    $bytes .= md5($bytes);
    return $bytes if $of{legacy};
    $bytes .= pack $description, @of{qw(size num type)};
    return $of{claims} ? $bytes . section($bytes, %of) : $bytes;
}

# Returns (size, num, type) from the end of one of our files; otherwise ().
sub shape {
    my $bytes = shift;
    return if length $bytes < 48;
    my ($magic, undef, @shape) = unpack 'L L Q L L', substr $bytes, -48;
    return $magic == MAGIC ? @shape : ();
}

sub image {
    my ($bytes, $size, $num) = @_;
    return unpack 'H*', substr $bytes, 0, 8 + $size * $num + $num + 32;
}

sub decode {
    my ($bytes, $size, $num) = @_;
    my $area = $size * $num;
    my $head = 8 + $area + $num;
    my %file = (free => -1, exact => 0);
    return \%file if length $bytes < $head + 32;
    $file{free}  = unpack 'L', $bytes;
    $file{zero}  = substr($bytes, 4, 4) eq "\0" x 4 ? 1 : 0;
    $file{slots} = [
        map {
            my $slot = substr $bytes, 8 + $_ * $size, $size;
            $slot =~ s/\0+\z//;
            $slot;
        } 0 .. $num - 1
    ];
    $file{used}      = ids(substr $bytes, 8 + $area, $num);
    $file{digest_ok} = substr($bytes, $head, 16) eq md5(substr $bytes, 0, $head)
        ? 1 : 0;
    @file{qw(size num type)} =
        unpack $description, substr $bytes, $head + 16, 16;
    my $end = $head + 32;
    if (length $bytes >= $end + 8 + 48) {
        my @end = unpack 'L L Q L L Q', substr $bytes, -48;
        my ($magic, $version) = unpack 'L L', substr $bytes, $end, 8;
        my $chunks = chunks(substr $bytes, $end + 8, -48) || {};
        $file{claims}    = ids($chunks->{ +CLAIMS } // '');
        $file{words}     = records($chunks->{ +WORDS } // '');
        $file{labels}    = $chunks->{ +LABELS };
        $file{claims_ok} = $magic == MAGIC && $version == VERSION
            && "@end" eq join(' ', MAGIC, VERSION, @file{qw(size num type)},
            length $bytes)
            && length($chunks->{ +CLAIMS } // '') == $num
            && substr($bytes, -16) eq md5(substr $bytes, 0, -16) ? 1 : 0;
        $end = length $bytes if $file{claims_ok};
    }
    $file{exact} = length $bytes == $end ? 1 : 0;
    return \%file;
}

1;
