#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The tls transport against gnutls-cli and gnutls-serv, which know raw public keys as well.
. "$abs_top_srcdir/tests/tls/interop.sh"
need openssl python3 certtool gnutls-cli gnutls-serv
make_keys
cd "$work" || exit 1
cert="key=ours.key certificate=ours.crt"
raw="NORMAL:-VERS-ALL:+VERS-TLS1.3:-CTYPE-ALL:+CTYPE-RAWPK"
x509="NORMAL:-VERS-ALL:+VERS-TLS1.3"
psks="NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK"

# say ARGUMENTS: gnutls-cli says something and waits for the echo; its words go to $them
say()
{
    them=$work/them.$checks.log
    : >"$them"
    { echo hello drafter; await "$them" '^hello drafter|alert|rror'; sleep 0.1; } |
        timeout 20 gnutls-cli --port "$port" --alpn drafter/1 "$@" 127.0.0.1 >"$them" 2>&1
}

# ---- gnutls connects

# shellcheck disable=SC2086
{
ours 1 key=ours.key
say --priority "$raw" --rawpkkeyfile peer.key --rawpkfile peer.pub --no-ca-verification
expect "raw public keys on both sides" "$them" '^hello drafter'
expect "the client is known by its key" "$log" "^peer $(pattern peer) .*\(peer\)"
expect "its end is in order" "$log" '^end'

ours 1 $cert
say --priority "$x509" --x509keyfile peer.key --x509certfile peer.crt --x509cafile ours.crt --no-ca-verification
expect "certificates on both sides" "$them" '^hello drafter'
expect "the same key as with raw keys" "$log" "^peer $(pattern peer)"

ours 1 $cert
say --priority "$x509:-GROUP-ALL:+GROUP-SECP256R1:+GROUP-X25519" --single-key-share --x509keyfile peer.key \
    --x509certfile peer.crt --no-ca-verification
expect "HelloRetryRequest" "$them" '^hello drafter'

ours 1 $cert rekey-after=1
say --priority "$x509" --x509keyfile peer.key --x509certfile peer.crt --no-ca-verification
expect "our KeyUpdate, and the answer to it" "$log" '^end'

ours 1 $cert
them=$work/them.$checks.log
: >"$them"
{ echo first; await "$them" '^first'; echo '^rekey^'; sleep 0.1; echo second; await "$them" '^second'; } |
    timeout 20 gnutls-cli --port "$port" --alpn drafter/1 --inline-commands --priority "$x509" --x509keyfile peer.key \
        --x509certfile peer.crt --no-ca-verification 127.0.0.1 >"$them" 2>&1
expect "its KeyUpdate" "$them" '^second'

ours 2 $cert
say --priority "$x509" --x509keyfile peer.key --x509certfile peer.crt --no-ca-verification --resume --waitresumption
expect "gnutls resumes a session" "$them" 'This is a resumed session'
await "$log" '^end'
grep -c "^peer $(pattern peer)" "$log" >count
expect "and is the same peer" count '^2$'

ours 1 psk-file=psk
say --priority "$psks" --pskusername node --pskkey $psk
expect "a key shared beforehand" "$them" '^hello drafter'
expect "is proof" "$log" '^peer psk:node'

ours 1 psk-file=psk
say --priority "$psks" --pskusername nobody --pskkey $psk
expect "an unknown one: alert unknown_psk_identity" "$them" '\[115\]'
expect "and a clear line" "$log" 'it offers no key shared beforehand that is known here'

ours 1 $cert psk-file=psk
say --priority "$psks" --pskusername node --pskkey $bad_psk
expect "a wrong one: alert decrypt_error" "$them" '\[51\]'
expect "and a clear line" "$log" 'its key for psk:node is another one'
say --priority "$raw" --rawpkkeyfile stranger.key --rawpkfile stranger.pub --no-ca-verification
expect "an unknown key: alert unknown_ca" "$them" '\[48\]'
expect "and a clear line" "$log" "the trust file has no key $(pattern stranger)"
say --priority "$x509" --no-ca-verification
expect "none: alert certificate_required" "$them" '\[116\]'
say --priority "$x509" --x509keyfile expired.key --x509certfile expired.crt --no-ca-verification
expect "an expired certificate: alert certificate_expired" "$them" '\[45\]'
expect "and a clear line" "$log" 'refused: its certificate has expired'
say --priority "$x509" --x509keyfile theirs.key --x509certfile server-only.crt --no-ca-verification
expect "one that is not for clients: alert unsupported_certificate" "$them" '\[43\]'
say --priority "$x509" --x509keyfile theirs.key --x509certfile issued.crt --no-ca-verification
expect "one that somebody else signed: alert bad_certificate" "$them" '\[42\]'
say --priority "NORMAL:-VERS-ALL:+VERS-TLS1.2" --no-ca-verification
expect "TLS 1.2: alert protocol_version" "$them" '\[70\]'
expect "and a clear line" "$log" 'it does not offer TLS 1.3'
them=$work/them.$checks.log
timeout 20 gnutls-cli --port "$port" --alpn h2 --priority "$x509" --no-ca-verification 127.0.0.1 >"$them" 2>&1 </dev/null
expect "another protocol: alert no_application_protocol" "$them" '\[120\]'
expect "and a clear line" "$log" 'it does not offer the protocol drafter/1'
refuse "nobody of them became a peer" "$log" '^peer'
kill "${pids##* }" 2>/dev/null
}

# ---- gnutls listens

# serve ARGUMENTS: starts gnutls-serv at $port, its words in $them
alpn=drafter/1
serve()
{
    port=$(free_port)
    them=$work/them.$checks.log
    stdbuf -oL gnutls-serv --port "$port" --alpn $alpn --alpn-fatal --echo "$@" >"$them" 2>&1 </dev/null &
    pids="$pids $!"
    await "$them" 'listening on IPv4.*done' || cat "$them"
}

# shellcheck disable=SC2086
{
serve --priority "$raw" --rawpkkeyfile theirs.key --rawpkfile theirs.pub --require-client-cert
client key=ours.key
expect "our client with raw keys" "$out" '^hello drafter'
expect "knows the server" "$log" '^peer sha256:.*\(theirs\)'

serve --priority "$x509" --x509keyfile theirs.key --x509certfile theirs.crt --x509cafile ours.crt \
    --require-client-cert --verify-client-cert
client $cert
expect "our client with a certificate that gnutls verifies" "$out" '^hello drafter'
times=3 client $cert
grep -c '^peer sha256' "$log" >count
expect "comes again and again" count '^3$'
grep -c 'This is a resumed session' "$them" >count
expect "of which twice without signatures" count '^2$'
client key=peer.key certificate=peer.crt
refuse "a certificate that gnutls does not verify is refused" "$out" '^hello'
expect "and the alert is understood" "$log" 'refused us with alert|error'
client $cert rekey-after=1
expect "our KeyUpdate at a server" "$out" '^hello drafter'

serve --priority "$psks" --pskpasswd psk
client psk-file=psk psk-identity=node
expect "our client with a shared key" "$out" '^hello drafter'
client psk-file=bad-psk psk-identity=node
expect "and no other" "$log" 'refused us with alert|it refused with alert'

serve --priority "$x509" --x509keyfile stranger.key --x509certfile stranger.crt
client $cert
expect "a server whose key is not trusted" "$log" "the trust file has no key $(pattern stranger)"
serve --priority "$x509" --x509keyfile expired.key --x509certfile expired.crt
client $cert
expect "one whose certificate has expired" "$log" 'its certificate has expired'
alpn=h2
serve --priority "$x509" --x509keyfile theirs.key --x509certfile theirs.crt
client $cert
expect "one that speaks another protocol" "$log" 'refused with alert no_application_protocol'
alpn=drafter/1
serve --priority "NORMAL:-VERS-ALL:+VERS-TLS1.2" --x509keyfile theirs.key --x509certfile theirs.crt
client $cert
expect "one that speaks TLS 1.2 only" "$log" 'alert (protocol_version|handshake_failure)|does not speak TLS 1.3'
}
finish
