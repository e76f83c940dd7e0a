#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The tls transport against openssl s_client and s_server.
. "$abs_top_srcdir/tests/tls/interop.sh"
need openssl python3 certtool
make_keys
cd "$work" || exit 1
cert="key=ours.key certificate=ours.crt"
proof="-cert peer.crt -key peer.key -CAfile ours.crt -verify_return_error"
s_client="timeout 20 openssl s_client -alpn drafter/1"

# say NAME ARGUMENTS: openssl as a client says something and waits for the echo; its words go to $them
say()
{
    them=$work/them.$checks.log
    : >"$them"
    { echo hello drafter; await "$them" '^hello drafter|alert|rror' ; sleep 0.1; echo Q; } |
        $s_client -connect "127.0.0.1:$port" "$@" >"$them" 2>&1
}

# ---- what it says of itself

limited="prlimit --memlock=0"
test "$(id -u)" != 0 || limited="setpriv --bounding-set=-ipc_lock $limited"
$limited "$pipe" trust="$work/trust.ini" key=ours.key connect 127.0.0.1:1 </dev/null >/dev/null 2>locked.log
expect "memory that cannot be locked is told of" locked.log 'memory cannot be locked.*ulimit -l'
"$pipe" trust="$work/trust.ini" key=ours.key connect 127.0.0.1:1 </dev/null >/dev/null 2>locked.log
refuse "and only that" locked.log 'locked'

# ---- openssl connects

# shellcheck disable=SC2086
{
ours 1 $cert
say $proof
expect "a client with a certificate is echoed" "$them" '^hello drafter'
expect "it is known by its key" "$log" "^peer $(pattern peer) .*\(peer\)"
expect "it says close_notify, which ends the stream" "$log" '^end'

ours 1 $cert
say -cert theirs.crt -key theirs.key
expect "a certificate that openssl made is understood" "$log" '^peer sha256.*\(theirs\)'

ours 1 $cert
say $proof -groups P-256:X25519
expect "a client without our key share is asked again (HelloRetryRequest)" "$log" '^end'

ours 2 $cert
say $proof -sess_out session
say $proof -sess_in session
expect "openssl resumes a session" "$them" '^Reused, TLSv1.3'
expect "a resumed session has the same peer" "$log" "^peer $(pattern peer)"
expect "a resumed session is echoed" "$them" '^hello drafter'

ours 1 $cert
them=$work/them.$checks.log
: >"$them"
{ sleep 0.2; echo K; sleep 0.2; echo k; sleep 0.2; echo after the updates; await "$them" '^after'; echo Q; } |
    $s_client -connect "127.0.0.1:$port" $proof >"$them" 2>&1
expect "openssl updates its keys, and asks for ours" "$them" '^KEYUPDATE'
expect "data flows both ways after that" "$them" '^after the updates'
expect "and the end is in order" "$log" '^end'

ours 1 $cert rekey-after=1
say $proof
expect "our KeyUpdate is understood" "$log" '^end'

ours 1 $cert
mkfifo words
openssl s_client -connect "127.0.0.1:$port" -alpn drafter/1 $proof <words >cut.log 2>&1 &
cut=$!
exec 3>words
echo hello >&3
await cut.log '^hello'
kill -9 $cut
wait $cut 2>/dev/null
exec 3>&-
expect "a stream that is cut off is no end" "$log" '^error ECONNRESET'

ours 1 psk-file=psk
say -psk_identity node -psk $psk
expect "a key shared beforehand is proof" "$log" '^peer psk:node'
expect "and is echoed" "$them" '^hello drafter'

ours 1 psk-file=psk
say -psk_identity node -psk $bad_psk
expect "a wrong shared key: alert decrypt_error" "$them" 'alert decrypt error|alert number 51'
expect "and a clear line" "$log" 'its key for psk:node is another one'
ours 1 psk-file=psk
say -psk_identity nobody -psk $psk
expect "an unknown shared key: alert unknown_psk_identity" "$them" 'alert unknown psk identity|alert number 115'
expect "and a clear line" "$log" 'no key shared beforehand that is known here'

ours 1 $cert
say -cert stranger.crt -key stranger.key
expect "an unknown key: alert unknown_ca" "$them" 'alert unknown ca'
expect "and a clear line" "$log" "the trust file has no key $(pattern stranger)"
say
expect "no certificate: alert certificate_required" "$them" 'alert certificate required|alert number 116'
say -cert expired.crt -key expired.key
expect "an expired certificate: alert certificate_expired" "$them" 'alert certificate expired'
expect "and a clear line" "$log" 'refused: its certificate has expired'
say -cert early.crt -key expired.key
expect "one of the future: alert certificate_expired" "$them" 'alert certificate expired'
expect "and a clear line" "$log" 'its certificate is not valid yet; compare the clocks'
say -cert server-only.crt -key theirs.key
expect "one that is not for clients: alert unsupported_certificate" "$them" 'alert unsupported certificate'
expect "and a clear line" "$log" 'its certificate is not for clients'
say -cert issued.crt -key theirs.key
expect "one that somebody else signed: alert bad_certificate" "$them" 'alert bad certificate'
expect "and a clear line" "$log" 'it is not signed by its own key'
say -cert ec.crt -key ec.key
expect "one of another kind is not even shown: alert certificate_required" "$them" 'alert certificate required|alert number 116'
s_client="timeout 20 openssl s_client -alpn http/1.1"
say $proof
expect "another protocol: alert no_application_protocol" "$them" 'alert no application protocol|alert number 120'
expect "and a clear line" "$log" 'it does not offer the protocol drafter/1'
s_client="timeout 20 openssl s_client"
say $proof
expect "no protocol: alert no_application_protocol" "$them" 'alert no application protocol|alert number 120'
s_client="timeout 20 openssl s_client -alpn drafter/1"
say $proof -tls1_2
expect "TLS 1.2: alert protocol_version" "$them" 'alert protocol version'
expect "and a clear line" "$log" 'it does not offer TLS 1.3'
say $proof -ciphersuites TLS_AES_128_GCM_SHA256
expect "another cipher suite: alert handshake_failure" "$them" 'alert handshake failure'
say $proof -groups P-256
expect "no X25519: alert handshake_failure" "$them" 'alert handshake failure'
say $proof -sigalgs ECDSA+SHA256
expect "no Ed25519: alert handshake_failure" "$them" 'alert handshake failure'
refuse "and nobody of them became a peer" "$log" '^peer'
kill "${pids##* }" 2>/dev/null
}

# ---- openssl listens

# serve ARGUMENTS: starts s_server at $port, its words in $them
serve()
{
    port=$(free_port)
    them=$work/them.$checks.log
    openssl s_server -accept "127.0.0.1:$port" -alpn drafter/1 -rev "$@" >"$them" 2>&1 </dev/null &
    pids="$pids $!"
    await "$them" '^ACCEPT' || cat "$them"
}

# shellcheck disable=SC2086
{
reversed='^retfard olleh'
serve -cert theirs.crt -key theirs.key -Verify 1 -CAfile ours.crt -verify_return_error
client $cert
expect "our client is answered" "$out" "$reversed"
expect "it knows the server by its key" "$log" '^peer sha256:.*\(theirs\)'
times=3 client $cert
expect "our client goes on with the same server" "$out" "$reversed"
client key=peer.key certificate=peer.crt
refuse "a certificate that openssl does not verify is refused" "$out" "$reversed"
expect "and we say which alert came" "$log" 'refused us with alert unknown_ca'
log=$work/client.$checks.log
echo CLOSE | timeout 20 "$pipe" trust="$work/trust.ini" $cert connect "127.0.0.1:$port" >"$out" 2>"$log"
expect "its close_notify is the end" "$log" '^error ENODATA'
client key=ours.key
expect "without a certificate, too" "$log" 'alert certificate_required'

serve -cert theirs.crt -key theirs.key -stateless
client $cert
expect "a HelloRetryRequest with a cookie is followed" "$out" "$reversed"

serve -cert theirs.crt -key theirs.key -msg
times=3 client $cert
grep -c '^peer sha256' "$log" >count
expect "our client comes three times" count '^3$'
grep -c '>>> TLS 1.3, Handshake.*, Certificate$' "$them" >count
expect "and openssl signs once, because we resume" count '^1$'
client $cert rekey-after=1
expect "openssl answers our KeyUpdate" "$out" "$reversed"

# Without -rev: what it says comes from us.
mkfifo orders
{
    port=$(free_port)
    them=$work/them.$checks.log
    openssl s_server -accept "127.0.0.1:$port" -alpn drafter/1 -cert theirs.crt -key theirs.key <orders >"$them" 2>&1 &
    server=$!
    pids="$pids $server"
    exec 4>orders
    await "$them" '^ACCEPT'
    out=$work/client.$checks.out log=$work/client.$checks.log
    echo "hello drafter" | timeout 20 "$pipe" trust="$work/trust.ini" $cert connect "127.0.0.1:$port" >"$out" 2>"$log" &
    talking=$!
    await "$them" '^hello drafter'
    printf 'K\n' >&4
    sleep 0.2
    printf 'after update\n\n' >&4
    wait $talking
    expect "our client follows a KeyUpdate" "$out" '^after update'
    refuse "without complaint" "$log" 'error'
    : >"$them"
    log=$work/client.$checks.log
    echo "hello again" | timeout 20 "$pipe" trust="$work/trust.ini" $cert connect "127.0.0.1:$port" >/dev/null 2>"$log" &
    talking=$!
    await "$them" '^hello again'
    kill -9 $server
    wait $server 2>/dev/null
    wait $talking
    expect "a server that dies did not end its stream" "$log" '^error ECONNRESET'
    exec 4>&-
}

serve -nocert -psk_identity node -psk $psk
client psk-file=psk psk-identity=node
expect "openssl accepts the shared key" "$out" "$reversed"
expect "which is known" "$log" '^peer psk:node .*\(shared\)'
client psk-file=bad-psk psk-identity=node
expect "and no other" "$log" 'refused us with alert|it refused with alert'

# 0-RTT, which is never accepted. The ticket is of openssl's own server: with us it is unknown, or, as it holds
# a secret like any other, a key shared beforehand.
serve -cert theirs.crt -key theirs.key -ciphersuites TLS_CHACHA20_POLY1305_SHA256 -max_early_data 16384
say -sess_out early-session
await early-session '^-----END'
sed -n 's/.*PSK: */node:/p' "$them" | tail -n 1 >early-psk
chmod 600 early-psk
for size in 300 12000; do
    head -c $size /dev/zero | tr '\0' x >early-data
    for groups in X25519 P-256:X25519; do
        ours 1 $cert
        say $proof -groups $groups -sess_in early-session -early_data early-data
        expect "$size bytes of early data are skipped, with $groups" "$log" '^end'
        expect "openssl is told" "$them" '^Early data was rejected'
        expect "and echoed is what came after them" "$them" '^hello drafter'
    done
    ours 1 psk-file=early-psk
    say -psk_session early-session -psk_identity node -early_data early-data
    expect "$size bytes are skipped behind a shared key" "$log" '^end'
    expect "whose owner is known" "$log" '^peer psk:node'
    expect "and openssl is told" "$them" '^Early data was rejected'
done
head -c 40000 /dev/zero >early-data
ours 1 psk-file=early-psk
say -psk_session early-session -psk_identity node -early_data early-data
expect "but not without end" "$log" 'it says too much before it is known'

serve -cert stranger.crt -key stranger.key
client $cert
expect "a server whose key is not trusted is refused" "$log" "the trust file has no key $(pattern stranger)"
expect "with alert unknown_ca" "$them" 'alert unknown ca'
serve -cert expired.crt -key expired.key
client $cert
expect "one whose certificate has expired" "$log" 'its certificate has expired'
expect "with alert certificate_expired" "$them" 'alert certificate expired'
serve -cert client-only.crt -key theirs.key
client $cert
expect "one whose certificate is not for servers" "$log" 'its certificate is not for servers'
expect "with alert unsupported_certificate" "$them" 'alert unsupported certificate'
serve -cert issued.crt -key theirs.key
client $cert
expect "one whose certificate somebody else signed" "$log" 'it is not signed by its own key'
expect "with alert bad_certificate" "$them" 'alert bad certificate'
serve -cert theirs.crt -key theirs.key -tls1_2
client $cert
expect "one that speaks TLS 1.2 only" "$log" 'it refused with alert protocol_version'
serve -cert theirs.crt -key theirs.key -groups P-256
client $cert
expect "one without X25519" "$log" 'alert handshake_failure'
serve -cert ec.crt -key ec.key
client $cert
expect "one with another kind of key" "$log" 'alert handshake_failure'
port=$(free_port)
them=$work/them.$checks.log
openssl s_server -accept "127.0.0.1:$port" -cert theirs.crt -key theirs.key -rev >"$them" 2>&1 </dev/null &
pids="$pids $!"
await "$them" '^ACCEPT'
client $cert
expect "one that knows no protocols" "$log" 'it does not speak the protocol drafter/1'
expect "with alert no_application_protocol" "$them" 'alert no application protocol|alert number 120'
}
finish
