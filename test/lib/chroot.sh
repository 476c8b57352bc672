# Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License.  You may obtain a copy
# of the License at  http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
# License for the specific language governing permissions and limitations
# under the License.
#
# chroot.sh: a clean chroot with a release of Debian, for the scripts that
# source this file. It needs root on Debian, and uses this machine's mirrors.
#
# The script sets top (our source tree) and work (a working directory), then
# calls in_namespaces with its own path and the arguments that make it continue
# inside; there it calls make_chroot. When the script ends, so do its mounts and
# processes, and the chroot is removed. Only work/cache remains, with the
# fetched packages. No service is started in a chroot.
# shellcheck shell=bash
# shellcheck disable=SC2154 # top and work

root=$work/root

fail() {
    echo "${0##*/}: $1" >&2
    exit 2
}

# ---- outside ----

# The processes in the namespace end when its first one does.
remove_chroot() {
    local status=$? tries=50
    if [ "${inside-}" ]; then
        kill -KILL "$inside" 2>/dev/null || true
        wait "$inside" 2>/dev/null || true
    fi
    until rm -rf --one-file-system "$root" 2>/dev/null; do
        [ $((tries -= 1)) -gt 0 ] || break
        sleep 0.1
    done
    exit "$status"
}

# in_namespaces COMMAND...: runs it in its own namespaces for mounts, processes
# and System V shared memory.
in_namespaces() {
    [ "$(id -u)" = 0 ] || fail "only root can make a chroot"
    if ! command -v debootstrap >/dev/null; then
        echo "${0##*/}: installing debootstrap"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
            --no-install-recommends -o DPkg::Lock::Timeout=120 debootstrap \
            </dev/null
    fi
    mkdir -p "$work/cache"
    rm -rf --one-file-system "$root"
    trap remove_chroot EXIT
    trap 'exit 130' INT TERM HUP
    unshare --mount --propagation private --ipc --pid --fork --kill-child \
        --mount-proc "$@" </dev/null &
    inside=$!
    wait "$inside"
}

# ---- inside ----

in_chroot() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \
        chroot "$root" "$@"
}

this_release() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# This machine's mirrors, one "URI RELEASE COMPONENT" per line.
mirrors() {
    apt-get indextargets 'Created-By: Packages' 'Component: main' \
        --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" | sort -u
}

# make_chroot RELEASE: a release other than this machine's comes as it was first
# published, without updates.
make_chroot() {
    local mirror
    mirror=$(mirrors |
        awk -v "r=$(this_release)" '$2 == r { print $1; exit }')
    [ "$mirror" ] || fail "apt knows no mirror of $(this_release)"
    mkdir "$root"
    mount --bind "$root" "$root" # the tests mount in it
    debootstrap --variant=minbase --cache-dir="$work/cache" "$1" "$root" \
        "$mirror" || return
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount --bind "$work/cache" "$root/var/cache/apt/archives"
    if [ "$1" = "$(this_release)" ]; then
        mirrors
    else
        echo "$mirror $1 main"
    fi | sed 's/^/deb /' >"$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(Check|https?::)' \
        >"$root/etc/apt/apt.conf.d/80machine" || true
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    in_chroot apt-get -qq update
}

# copy_source DIRECTORY: copies the files that git tracks or would track, and
# nothing that was built.
copy_source() {
    mkdir -p "$root$1"
    cd "$top" || return
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard
    else
        find . -path ./test/.build -prune -o -type f -print0
    fi | tar -c --null --ignore-failed-read -T - | tar -x -C "$root$1"
}
