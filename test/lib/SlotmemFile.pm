# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The persisted file of a segment, written and read by tests on their own:
# docs/contract.md, section E, says what is where.
#
#   my $bytes = SlotmemFile::encode(size => 16, num => 4, type => 1,
#       slots => ['a', 'b'], used => [0, 2]);
#       # also: free => the number to write if not the right one;
#       # claims => [ids], the run-time claims; legacy => 1, ends at the MD5
#   my $file = SlotmemFile::decode($bytes, 16, 4);
#       # free, slots, used, size, num, type, digest_ok, exact; for a file
#       # with run-time claims: claims, claims_ok
#   my $image = SlotmemFile::image($bytes, 16, 4);
#       # the part that all modules share, in hex; short if the file is

package SlotmemFile;

use strict;
use warnings;

use Config;
use Digest::MD5 qw(md5);

use constant { PERSIST => 1, PREGRAB => 4, CLEARINUSE => 8 };
use constant { CLAIMS_MAGIC => 0x534c4d43, CLAIMS_VERSION => 1 };

my $description = $Config{ptrsize} == 8 ? 'Q L L' : 'L L L x4';

# Which ids there are, as a byte for each slot, and back.
sub marks {
    my ($num, @ids) = @_;
    my @marks = (0) x $num;
    @marks[@ids] = (1) x @ids;
    return pack 'C*', @marks;
}

sub ids {
    my @marks = unpack 'C*', shift;
    return [grep { $marks[$_] } 0 .. $#marks];
}

sub encode {
    my %of    = (slots => [], used => [], type => PERSIST, @_);
    my $free  = $of{free} // $of{num} - @{ $of{used} };
    my $bytes = pack 'L x4', $free;
    $bytes .= pack "a$of{size}", $of{slots}[$_] // '' for 0 .. $of{num} - 1;
    $bytes .= marks($of{num}, @{ $of{used} });
    $bytes .= md5($bytes);
    return $bytes if $of{legacy};
    $bytes .= pack $description, @of{qw(size num type)};
    if ($of{claims}) {
        $bytes .= pack 'L L', CLAIMS_MAGIC, CLAIMS_VERSION;
        $bytes .= marks($of{num}, @{ $of{claims} });
        $bytes .= md5($bytes);
    }
    return $bytes;
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
    if (length $bytes >= $end + 8 + $num + 16) {
        my ($magic, $version) = unpack 'L L', substr $bytes, $end, 8;
        $file{claims} = ids(substr $bytes, $end + 8, $num);
        $end += 8 + $num;
        $file{claims_ok} =
               $magic == CLAIMS_MAGIC
            && $version == CLAIMS_VERSION
            && substr($bytes, $end, 16) eq md5(substr $bytes, 0, $end) ? 1 : 0;
        $end += 16;
    }
    $file{exact} = length $bytes == $end ? 1 : 0;
    return \%file;
}

1;
