# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The module's identity: its name, its provider, the MPMs (contract, A).

use strict;
use warnings;

use Apache::Test ();
use LWP::Simple qw(get);
use SlotmemApi;
use Test::More;

my $vars     = Apache::Test::vars();
my $api      = SlotmemApi->new;
my $identity = $api->run('identity');

# The server of Apache::Test loads it by this name.
my $dump = `$vars->{httpd} -f $vars->{t_conf_file} -t -D DUMP_MODULES 2>&1`;
like($dump, qr/^ slotmem_shm_module \(shared\)$/m,
    '[A1] the module structure is slotmem_shm_module');
is($identity->{module}, 'mod_slotmem_shm.c',
    '[A1] consumers find it by the name of its source file');
my @symbols = grep { !/ (?:_init|_fini)$/ }
    `nm -D --defined-only "$ENV{SLOTMEM_DSO}"`;
is(scalar @symbols, 1, '[A1] the DSO exports one symbol') or diag(@symbols);
like($symbols[0] // '', qr/ slotmem_shm_module$/,
    '[A1] ... and that is the module');

is($identity->{shared}, 1, '[A2] there is a provider "shared"');
is($identity->{shm}, 1, '[A2] there is a provider "shm"');
is($identity->{one}, 1, '[A2] both names are one provider');
is($identity->{name}, 'sharedmem', '[A2] its name field');
is($identity->{functions}, 1, '[A2] it has each function of the header');

my ($version) = $identity->{version} =~ m{^Apache/2\.4\.(\d+)};
cmp_ok($version // 0, '>=', 4,
    '[A3] built with apxs, it runs in an httpd 2.4.4 or later');

my $status = get("http://$vars->{servername}:$vars->{port}"
        . '/server-status?auto') // '';
my ($mpm) = $status =~ /^ServerMPM: (\w+)/m;
is(lc($mpm // ''), $ENV{SLOTMEM_MPM},
    '[A4] it works in the requested MPM');

done_testing;
