# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# A segment that is too large for memory, in the configuration: the consumer
# gets an error, and the server starts (contract, D1).

use strict;
use warnings;

use Config;
use SlotmemApi;
use SlotmemServer;
use Test::More;

# With 32 bits half of the address space may be available, but not the other
# half.
my ($first, $huge) = ('', 'size=0x1000000000000 num=16');
if ($Config{ptrsize} == 4) {
    $huge  = 'size=0x7fff0000 num=1';
    $first = "SlotmemTest post_config create name=none $huge\n";
}
my $s = SlotmemServer->new(servers => 1, config => <<"EOT");
${first}SlotmemTest post_config create name=huge tag=huge $huge
SlotmemTest post_config create name=huge tag=again size=8 num=2
EOT
my $api = SlotmemApi->new($s);
$s->start;
$api->same($api->result('huge'), { status => 'APR_ENOMEM', inst => 'null' },
    '[D1] no memory in the configuration: the system\'s error');
$api->same($api->result('again'), { inst => 'set', num => 2, size => 8 },
    '[D1] ... and the name can be used after that');

# Without a file descriptor for the files that children need at run time, the
# server runs and logs it; the children's requests are refused.
SKIP: {
    skip 'not our module', 5 if !SlotmemServer->is_ours;
    $s->stop;
    $s->config(<<'EOT');
SlotmemTest open_logs limit spare=0
SlotmemTest post_config-first limit spare=100000
SlotmemTest post_config create name=configured size=8 num=2
EOT
    $s->log_mark;
    $s->start;
    is($s->log_only('SLOTMEM-08', 'error', qr/Too many open files/), 1,
        'no segments at run time: one error line') or diag($s->log_since);
    my ($made, $other) =
        $api->run('create name=run size=8 num=2', 'info name=configured');
    $api->same($made, { status => 'APR_ENOSHMAVAIL', inst => 'null' },
        '... a child cannot create any');
    is($s->log_only('SLOTMEM-03', 'error', 'run', 2, 8), 1,
        '... and logs it');
    $api->same($other, { status => undef, num => 2, free => 2 },
        '... configured segments work');
    is($s->log_count(qr/slotmem_shm:(?:error|warn)/), 2, '... no other line');
}

done_testing;
