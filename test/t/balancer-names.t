# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.


# Workers that are added at run time have names of many kinds, and each still
# exists after a restart: a restored slot is checked for what mod_proxy could
# have made, and nothing that it does make may fail that check.

use strict;
use warnings;

use Digest::MD5 qw(md5);
use SlotmemBalancer;
use SlotmemFile;
use Test::More;

my @urls = (
    'http://LOCALHOST:8080/Path/a%20b?x=y',
    'http://[::1]:81',
    'http://[FE80::1]/',
    'http://10.0.0.1:080/',
    'http://user:secret@h.example:80/',
    'http://' . 'h' x 100 . '.example/' . 'p' x 200,
    'unix:/tmp/some.sock|http://localhost/x',
    'unix:/tmp/some.sock|fcgi:',
    'HTTPS://h.example:443/',
    'ajp://h.example',
    'ws://h.example:1/'
);

my $server = SlotmemServer->new(
    testmod => 0,
    modules => [qw(proxy proxy_http proxy_balancer lbmethod_byrequests)],
    config  => <<"EOT",
BalancerPersist On
<Proxy balancer://names>
    BalancerMember http://127.0.0.1:1
    ProxySet growth=@{[scalar @urls]}
</Proxy>
<Location /balancer-manager>
    SetHandler balancer-manager
</Location>
EOT
);
my $manager = SlotmemBalancer->new($server);
$server->start;
$manager->add_worker('names', $_) for @urls;
my @added = $manager->table('names');
is(scalar @added, 1 + @urls, 'all are added');
for my $how (qw(graceful restart)) {
    $server->$how;
    is_deeply([$manager->table('names')], \@added, "[E6][E7] $how: all stay");
}
$server->stop;
$server->start;
is_deeply([$manager->table('names')], \@added, '[E6][E7] stop, start: also');
is($server->log_count(qr/slotmem_shm:(?:error|crit)/), 0, 'no complaint');

# A child has changed the scheme in a slot: mod_proxy cannot have made that. The
# configuration did not remove the worker, so the line that says so does not name
# it; the file that had the slot is kept.
my $file = $manager->file('names');
$server->stop;
my $bytes = SlotmemServer::slurp($file);
my ($size, $num) = SlotmemFile::shape($bytes);
my $at = 8 + $size * $num + $num;
$bytes =~ s/ajp\0/xjp\0/ or die "$file: no scheme\n";
substr($bytes, $at,  16) = md5(substr $bytes, 0, $at);
substr($bytes, -16, 16) = md5(substr $bytes, 0, -16);
open my $out, '>:raw', $file or die "$file: $!";
print $out $bytes;
close $out or die "$file: $!";
$server->log_mark;
$server->start;
is_deeply([$manager->table('names')], [grep { !/^ajp:/ } @added],
    '[E7] a slot that mod_proxy cannot have made is not restored')
    or diag($server->log_since);
unlike($server->log_since, qr/SLOTMEM-23/, '[E7] ... and no line names it');
$server->stop;
is(SlotmemServer::slurp("$file.bak"), $bytes,
    '[E7] ... the file that had it is kept');

done_testing;
