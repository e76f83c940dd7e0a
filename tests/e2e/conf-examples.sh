#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The examples in conf/ work together as they are, each on a host of its own as far as paths go: a snapshot,
# a registry that hands it out, a peer that has it in files, a peer that takes the VM over from either, and one
# that takes it over by TLS.
# All defaults that are shown are accepted as well.
abs_top_srcdir=${abs_top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
. "$abs_top_srcdir/tests/lib.sh"
. "$abs_top_srcdir/tests/e2e/redis.sh"

redis_need
lab_begin
image=$(redis_image) || lab_skip "$image"
read -r port_1600 port_1601 port_6379 port_6380 < <(free_ports 4)

# install NAME HOST: $lab/NAME.ini with this host's paths and our ports, and with all defaults as values
install() {
    sed -e "s,/var/lib/drafter,$lab/$2/lib,; s,/run/drafter,$lab/$2/run,; s,/etc/drafter,$lab/$2/etc," \
        -e "s/:1600$/:$port_1600/; s/:1601$/:$port_1601/; s/:6379-/:$port_6379-/; s/:6380-/:$port_6380-/" \
        -e 's/^#//' "$abs_top_srcdir/conf/$1.ini" >"$lab/$1.ini"
    mkdir -p "$lab/$2/lib" "$lab/$2/etc"
}

answers() { # PORT
    exec 7<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'PING\r\n' >&7
    read -r -t 10 -u 7 answer
    exec 7>&-
    [ "$answer" = $'+PONG\r' ]
}

install snapshotter one
mkdir "$lab/one/lib/package"
cp -r --sparse=always "$image" "$lab/one/lib/image"
# The example has the words that any guest needs; those of the image spare time.
sed -i "s/^boot-args = .*/boot-args = $(sed 's,[/&],\\&,g' "$image/boot-args")/" "$lab/snapshotter.ini"
node_start snapshotter "$lab/snapshotter.ini"
node_await snapshotter 240
echo "ok: snapshotter.ini"

install packager one
node_start packager "$lab/packager.ini"
node_await packager
"$DRAFTER" package verify "$lab/one/lib/redis.tar.zst" || lab_fail "the package is not what was packed"
echo "ok: packager.ini"

# Straight from the package, stopped, and on from there.
install runner one
mkdir "$lab/one/lib/running"
package=$(cksum <"$lab/one/lib/redis.tar.zst")
for _ in 1 2; do
    node_start runner "$lab/runner.ini"
    node_event runner resumed 120
    until_true 20 answers "$port_6379" || lab_fail "the VM from the package does not serve"
    node_stop runner
done
[ "$(cksum <"$lab/one/lib/redis.tar.zst")" = "$package" ] || lab_fail "the package was written to"
echo "ok: runner.ini"

install registry one
node_start registry "$lab/registry.ini"
node_event registry listening
install peer-incoming two
mkdir "$lab/two/lib/incoming"
node_start copy "$lab/peer-incoming.ini"
node_event copy arrived 120
until_true 10 answers "$port_6380" || lab_fail "the copy from the registry does not serve"
node_stop copy
install mounter six
mkdir "$lab/six/lib/mounted"
node_start mounter "$lab/mounter.ini"
node_event mounter listening 120
cmp "$lab/six/lib/mounted/disk" "$lab/one/lib/package/disk" || lab_fail "the mounter has something else"
echo "ok: mounter.ini"
install terminator seven
mkdir "$lab/seven/lib/backup"
node_start terminator "$lab/terminator.ini"
node_await terminator 120
(cd "$lab/seven/lib/backup" && [ "$(echo *)" = "config disk initramfs kernel memory state" ]) ||
    lab_fail "the backup is not there, or more than that"
node_stop mounter
echo "ok: terminator.ini"
node_stop registry
echo "ok: registry.ini"

install peer-local three
cp -r --sparse=always "$lab/one/lib/package" "$lab/three/lib/redis"
base=$(b2sum "$lab/three/lib/redis/disk" "$lab/three/lib/redis/memory")
node_start local "$lab/peer-local.ini"
node_event local listening 120
until_true 10 answers "$port_6379" || lab_fail "the VM from files does not serve"
[ "$(b2sum "$lab/three/lib/redis/disk" "$lab/three/lib/redis/memory")" = "$base" ] || lab_fail "the base was written to"
echo "ok: peer-local.ini"

rm -rf "$lab/two"
install peer-incoming two
mkdir "$lab/two/lib/incoming"
node_start incoming "$lab/peer-incoming.ini"
node_event incoming arrived 120
node_await local
until_true 10 answers "$port_6380" || lab_fail "the VM from the peer does not serve"
node_stop incoming
echo "ok: peer-incoming.ini"

# The VM was saved at host two: there it starts again, and goes by TLS to host four, once each trusts the other.
install peer-tls two
sed -e "/^connect/d; s/^\(listen = .*\):.*/\1:$port_1600/; s/:$port_6380-/:$port_6379-/" "$lab/peer-tls.ini" >"$lab/safe.ini"
key_two=$("$DRAFTER" keygen "$lab/two/etc/node")
node_start safe "$lab/safe.ini"
node_event safe listening 120
install peer-tls four
mkdir "$lab/four/lib/incoming"
key_four=$("$DRAFTER" keygen "$lab/four/etc/node")
node_start stranger "$lab/peer-tls.ini"
! wait "${node_pid[stranger]}" && grep -q "trust file has no key $key_two" "${node_log[stranger]}" ||
    lab_fail "a server that is not trusted is not refused"
"$DRAFTER" trust --config "$lab/peer-tls.ini" add host-a "$key_two" push 'redis*'
"$DRAFTER" trust --config "$lab/safe.ini" add host-b "$key_four" pull 'redis*'
node_start tls "$lab/peer-tls.ini"
node_event tls arrived 120
node_await safe
until_true 10 answers "$port_6380" || lab_fail "the VM that came by TLS does not serve"
node_stop tls
echo "ok: peer-tls.ini"
lab_leaks
