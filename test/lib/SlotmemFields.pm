# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.

# The fields of the two structs that mod_proxy_balancer keeps in shared memory,
# and what a restore does with each of them (contract E6, E7).
#
#   my $fields = SlotmemFields->new($include);  # where mod_proxy.h is;
#       dies if the header has a field that the table below lacks, or vice
#       versa: a developer must decide what a restore does with a new field
#   $fields->list('member'):  { name, rule, bit, text } of each, in order; also
#       'balancer'
#   $fields->write($path): writes a C header for programs that set or check any
#       field by its name
#
# A field that this release of httpd does not have yet is skipped.

package SlotmemFields;

use strict;
use warnings;

my %struct = (
    member   => 'proxy_worker_shared',
    balancer => 'proxy_balancer_shared'
);

# config: the configuration's value. merge: the newer setting wins. carry: the
# stored value, within limits. zero, place: what the name says. other: checked
# one by one.
my %rules = (
    member => {
        config => [qw(name name_ex scheme hostname hostname_ex port uds_path
            hash is_name_matchable is_host_matchable min smax hmax ttl flusher
            flush_wait flush_packets retry retry_set timeout timeout_set
            acquire acquire_set ping_timeout ping_timeout_set conn_timeout
            conn_timeout_set recv_buffer_size recv_buffer_size_set
            io_buffer_size io_buffer_size_set response_field_size
            response_field_size_set keepalive keepalive_set disablereuse
            disablereuse_set is_address_reusable upgrade secret address_ttl
            address_ttl_set updated)],
        merge => [qw(route redirect lbset lbfactor hcuri hcexpr passes fails
            method interval)],
        carry => [qw(retries elected transferred read pcount fcount)],
        zero  => [qw(lbstatus busy context address_expiry was_malloced)],
        place => [qw(index)],
        other => [qw(status error_time)]
    },
    balancer => {
        config => [qw(name hash vpath vhost vhosted inactive wupdated
            need_reset sticky_separator sticky_separator_set scolonsep
            scolonsep_set forcerecovery forcerecovery_set sticky_force_set
            nonce_set)],
        merge => [qw(sticky sticky_path sticky_force timeout max_attempts
            max_attempts_set)],
        zero  => [qw(was_malloced)],
        place => [qw(index)],
        other => [qw(sname lbpname nonce)]
    }
);

# Added within 2.4, after the oldest release that is supported.
my %may_lack = map { $_ => 1 }
    qw(is_host_matchable address_ttl address_ttl_set address_expiry);

sub new {
    my ($class, $include) = @_;
    open my $in, '<', "$include/mod_proxy.h"
        or die "$include/mod_proxy.h: $!\n";
    local $/;
    my $text = <$in>;
    $text =~ s{/\*.*?\*/}{}gs;
    my $self = bless {}, $class;
    for my $kind (sort keys %struct) {
        my ($body) = $text =~ /typedef\s+struct\s*\{
            ((?:(?!typedef\s+struct).)*?)\}\s*$struct{$kind}\s*;/sx
            or die "mod_proxy.h: no $struct{$kind}\n";
        $self->{$kind} = [fields($kind, $body)];
    }
    return $self;
}

sub fields {
    my ($kind, $body) = @_;
    my %rule;
    for my $rule (keys %{ $rules{$kind} }) {
        $rule{$_} = $rule for @{ $rules{$kind}{$rule} };
    }
    $body =~ s/enum\s*\{.*?\}/enum/gs;
    my @fields;
    for my $line (grep { /\S/ } split /;/, $body) {
        my ($name, $size, $bit) =
            $line =~ /(\w+)\s*(\[[^\]]*\])?\s*(:\s*1\s*)?$/
            or die "mod_proxy.h: not understood: $line\n";
        my $rule = delete $rule{$name}
            or die "mod_proxy.h: $struct{$kind} has a field that this "
            . "campaign does not know: $name\n";
        push @fields, { name => $name, rule => $rule, bit => $bit ? 1 : 0,
            text => $size ? 1 : 0 };
    }
    my @lacking = grep { !$may_lack{$_} } sort keys %rule;
    die "mod_proxy.h: $struct{$kind} has no field @lacking\n" if @lacking;
    return @fields;
}

sub list { return @{ $_[0]{ $_[1] } } }

# ---- for programs in C ----

my $types = <<'EOT';
#include <stddef.h>
#include "mod_proxy.h"

enum { RULE_CONFIG, RULE_MERGE, RULE_CARRY, RULE_ZERO, RULE_PLACE,
       RULE_OTHER };

/* A field has a place and a size, or, if it is a single bit, two functions. */
typedef struct {
    const char *name;
    int rule;
    int text;
    size_t offset;
    size_t size;
    unsigned (*get)(const void *);
    void (*set)(void *, unsigned);
} slots_field_t;

EOT

sub write {
    my ($self, $path) = @_;
    open my $out, '>', $path or die "$path: $!\n";
    print {$out} $types;
    for my $kind (sort keys %struct) {
        my $struct = $struct{$kind};
        my @rows;
        for my $field ($self->list($kind)) {
            my ($name, $rule) = ($field->{name}, uc "rule_$field->{rule}");
            if (!$field->{bit}) {
                push @rows, qq({ "$name", $rule, $field->{text}, )
                    . "offsetof($struct, $name), "
                    . "sizeof((($struct *)0)->$name), NULL, NULL }";
                next;
            }
            print {$out} <<"EOT";
static unsigned get_${kind}_$name(const void *s)
{ return ((const $struct *)s)->$name; }
static void set_${kind}_$name(void *s, unsigned v)
{ (($struct *)s)->$name = v & 1; }
EOT
            push @rows, qq({ "$name", $rule, 0, 0, 0, )
                . "get_${kind}_$name, set_${kind}_$name }";
        }
        print {$out} "static const slots_field_t ${kind}_fields[] = {\n    ",
            join(",\n    ", @rows,
            '{ NULL, 0, 0, 0, 0, NULL, NULL }'), "\n};\n";
    }
    close $out or die "$path: $!\n";
    return;
}

1;
