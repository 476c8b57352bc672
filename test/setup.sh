#!/bin/sh
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
#
# setup.sh: finds out what this machine lacks for the demo or for the tests,
# lists it, and installs it, with apt-get on Debian and its derivatives.
#
#   test/setup.sh demo     httpd, and what is needed to build and to query it
#   test/setup.sh check    the same, cmocka, clang, and Apache::Test, unpacked
#   test/setup.sh lint     the tools of test/lint
#   test/setup.sh bench    the tools of test/bench
#   test/setup.sh machines the tools of test/machines
#   test/setup.sh monitors the tools of test/monitoring-tests, unpacked
#   test/setup.sh browser  the browser of test/page-tests
#
# Only apt-get runs as root (through sudo if necessary). apache2-bin and
# apache2-dev contain httpd without its service: nothing is started or enabled.
#
# Apache::Test is in the package of mod_perl, which would enable itself in the
# system's httpd. So its modules are extracted from the package into
# test/.build/apache-test: put that directory into PERL5LIB.
#
# The packages of Prometheus and others would start services. So they are
# extracted too, into test/.build/monitors.
#
# Environment: APXS, the apxs of an httpd of your own.
set -eu

cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin
apache_test=.build/apache-test

fail() {
    echo "setup.sh: $1" >&2
    exit 1
}

# need PACKAGE COMMAND...: the package is missing unless the command succeeds.
missing=
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

have() { command -v "$1"; }
have_perl() { perl "-M$1" -e 1; }
have_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(char *d, long n) { return !d + n < 0; }' |
        clang -fsanitize=fuzzer -x c - -o /dev/null
}
have_libc() { echo '#include <stdio.h>' | gcc -E -; }

need_for_demo() {
    if [ -z "${APXS-}" ]; then
        need apache2-bin have apache2
        need apache2-dev have apxs
    fi
    need gcc have gcc
    need libc6-dev have_libc
    need make have make
    need perl have_perl Test::More
    need libwww-perl have_perl LWP::UserAgent
}

need_for_check() {
    need libcmocka-dev test -f /usr/include/cmocka.h
    need autoconf have autoconf
    need clang have clang
    need g++ have c++
    need util-linux have setpriv
    need libxml2-utils have xmllint
    need xsltproc have xsltproc
}

# In old releases there is no such package, and clang contains it.
need_for_fuzzer() {
    need libclang-rt-dev have_fuzzer
}

need_for_lint() {
    need cppcheck have cppcheck
    need clang-14 have clang-14
    need clang-tidy-14 have clang-tidy-14
    need clang-tools-14 have scan-build-14
}

need_for_bench() {
    need valgrind have valgrind
    need apache2-utils have ab
    need util-linux have unshare
}

need_for_machines() {
    need qemu-user-static have qemu-s390x-static
    need debootstrap have debootstrap
    need musl-tools have musl-gcc
    need gcc-i686-linux-gnu have i686-linux-gnu-gcc
    need libc6-dev-i386-cross test -d /usr/i686-linux-gnu/include
    need gcc-arm-linux-gnueabihf have arm-linux-gnueabihf-gcc
    need libc6-dev-armhf-cross test -d /usr/arm-linux-gnueabihf/include
    need gcc-aarch64-linux-gnu have aarch64-linux-gnu-gcc
    need libc6-dev-arm64-cross test -d /usr/aarch64-linux-gnu/include
    need gcc-s390x-linux-gnu have s390x-linux-gnu-gcc
    need libc6-dev-s390x-cross test -d /usr/s390x-linux-gnu/include
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_install() {
    # shellcheck disable=SC2086 # one word a package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
        --no-install-recommends -o DPkg::Lock::Timeout=120 $missing
}

# With missing or old lists this fails; then they are fetched.
with_lists() {
    "$@" 2>/dev/null || {
        as_root apt-get update -qq
        "$@"
    }
}

# After that, nothing is missing.
install_missing() {
    [ -n "$missing" ] || return 0
    echo "setup.sh: installing:$missing"
    command -v apt-get >/dev/null ||
        fail "no apt-get: install the content of these Debian packages yourself"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        fail "no sudo: run as root: apt-get install$missing"
    with_lists apt_install </dev/null
    missing=
}

have_apache_test() {
    PERL5LIB=$apache_test${PERL5LIB:+:$PERL5LIB} have_perl Apache::TestRun
}

download_apache_test() (
    cd "$work"
    apt-get download -qq -o APT::Sandbox::User=root libapache2-mod-perl2
)

unpack_apache_test() {
    have_apache_test 2>/dev/null && return
    echo "setup.sh: unpacking Apache::Test into test/$apache_test"
    command -v apt-get >/dev/null ||
        fail "no apt-get: install Apache::Test from CPAN"
    mkdir -p .build
    work=$(mktemp -d .build/unpack.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    with_lists download_apache_test
    dpkg -x "$work"/libapache2-mod-perl2_*.deb "$work/x"
    found=$(find "$work/x" -path '*/Apache/Test.pm')
    mkdir -p "$work/lib/Apache"
    cp "${found%.pm}"*.pm "$work/lib/Apache"
    rm -rf "$apache_test"
    mv "$work/lib" "$apache_test"
    have_apache_test || fail "Apache::Test does not load; see above"
}

# Prometheus's own checks and an exporter, a reader of OpenMetrics, and a Nagios
# plugin with the modules that it needs.
monitors='prometheus prometheus-apache-exporter python3-prometheus-client
    monitoring-plugins-contrib libmonitoring-plugin-perl libclass-accessor-perl
    libconfig-tiny-perl libmath-calc-units-perl libparams-validate-perl
    libsub-name-perl libmodule-implementation-perl libmodule-runtime-perl
    libtry-tiny-perl liblocale-gettext-perl'

download_monitors() (
    cd "$work"
    # shellcheck disable=SC2086 # one word a package
    apt-get download -qq -o APT::Sandbox::User=root $monitors
)

unpack_monitors() {
    [ ! -d .build/monitors ] || return 0
    command -v apt-get >/dev/null || fail "no apt-get: no monitors to try"
    mkdir -p .build
    work=$(mktemp -d .build/unpack.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    with_lists download_monitors
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/x"
    done
    mv "$work/x" .build/monitors
}

case $#:${1-} in
1:demo)
    need_for_demo
    install_missing
    ;;
1:check)
    need_for_demo
    need_for_check
    install_missing
    need_for_fuzzer
    install_missing
    unpack_apache_test
    ;;
1:lint)
    need_for_demo
    need_for_lint
    install_missing
    ;;
1:bench)
    need_for_demo
    need_for_bench
    install_missing
    ;;
1:monitors)
    need_for_demo
    need python3 have python3
    install_missing
    unpack_monitors
    ;;
1:browser)
    need_for_demo
    need chromium have chromium
    install_missing
    ;;
1:machines)
    need_for_check
    need_for_machines
    install_missing
    need_for_fuzzer
    install_missing
    ;;
*)
    echo "usage: setup.sh demo|check|lint|bench|machines|monitors|browser" >&2
    exit 2
    ;;
esac
