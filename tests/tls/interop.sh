# SPDX-License-Identifier: BSD-2-Clause
# What the interoperability tests share; to be sourced.  Loopback only.
set -u
work=$(mktemp -d "${TMPDIR:-/tmp}/drafter-tls.XXXXXX")
pids=
checks=0 faults=0
pipe=$abs_top_builddir/tests/tls/tls-pipe

cleanup()
{
    for pid in $pids; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT

need()
{
    for program; do
        command -v "$program" >/dev/null || { echo "$program is missing"; exit 77; }
    done
}

# Waits until a file has a line that matches: await FILE PATTERN
await()
{
    tries=0
    until grep -Eq "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        test $tries -le 500 || return 1
        sleep 0.02
    done
}

# expect NAME FILE PATTERN: one check
expect()
{
    checks=$((checks + 1))
    if await "$2" "$3"; then
        echo "ok: $1"
    else
        faults=$((faults + 1))
        echo "FAULT: $1: no \"$3\" in:"
        sed 's/^/    /' "$2"
    fi
}

# refuse NAME FILE PATTERN: it must not be there
refuse()
{
    checks=$((checks + 1))
    if grep -Eq "$3" "$2"; then
        faults=$((faults + 1))
        echo "FAULT: $1: \"$3\" in:"
        sed 's/^/    /' "$2"
    else
        echo "ok: $1"
    fi
}

# The identity of a public key or certificate in PEM, worked out by openssl.
identity()
{
    case $1 in
    *.crt) openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform DER;;
    *) openssl pkey -pubin -in "$1" -outform DER;;
    esac | openssl dgst -sha256 -binary | base64 | sed 's/^/sha256:/'
}

# The identity of a key as a pattern.
pattern()
{
    sed 's/[+]/[+]/g' "$work/$1.id"
}

# Keys: ours and a peer's that is trusted, both of keygen; a stranger; one of openssl that is trusted.
make_keys()
{
    printf '[drafter]\ntrust = %s/trust.ini\n' "$work" >"$work/node.ini"
    for name in ours peer stranger; do
        "$DRAFTER" keygen "$work/$name" >"$work/$name.id" || exit 1
    done
    for name in theirs expired; do
        openssl genpkey -algorithm ed25519 -out "$work/$name.key" 2>/dev/null || exit 1
        openssl pkey -in "$work/$name.key" -pubout -out "$work/$name.pub"
    done
    chmod 600 "$work"/*.key
    openssl req -new -x509 -key "$work/theirs.key" -subj /CN=theirs -days 30 -out "$work/theirs.crt"
    certificate expired.key expired 'activation_date = "2020-01-01 00:00:00 UTC"' \
        'expiration_date = "2021-01-01 00:00:00 UTC"'
    certificate expired.key early 'activation_date = "2120-01-01 00:00:00 UTC"' \
        'expiration_date = "2121-01-01 00:00:00 UTC"'
    certificate theirs.key server-only 'tls_www_server' 'expiration_days = 30'
    certificate theirs.key client-only 'tls_www_client' 'expiration_days = 30'
    # One that another key signed: pinning knows no authorities.
    echo basicConstraints=CA:FALSE >"$work/issued.cfg"
    openssl req -new -key "$work/theirs.key" -subj /CN=issued |
        openssl x509 -req -CA "$work/ours.crt" -CAkey "$work/ours.key" -days 30 -extfile "$work/issued.cfg" \
            -out "$work/issued.crt" 2>/dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/ec.key"
    openssl req -new -x509 -key "$work/ec.key" -subj /CN=ec -days 30 -out "$work/ec.crt"
    for name in ours peer theirs expired; do
        "$DRAFTER" trust --config "$work/node.ini" add $name "$(identity "$work/$name.pub")" pull || exit 1
    done
    "$DRAFTER" trust --config "$work/node.ini" add shared psk:node pull || exit 1
    printf 'node:%s\n' "$psk" >"$work/psk"
    printf 'node:%s\n' "$bad_psk" >"$work/bad-psk"
    chmod 600 "$work/psk" "$work/bad-psk"
}

# certificate KEY NAME LINE...: a self-signed one with these lines of certtool's templates
certificate()
{
    key=$1 name=$2
    shift 2
    { echo "cn = $name"; printf '%s\n' "$@"; } >"$work/$name.cfg"
    certtool --generate-self-signed --load-privkey "$work/$key" --template "$work/$name.cfg" \
        --outfile "$work/$name.crt" 2>/dev/null || { echo "certtool cannot make $name.crt"; exit 1; }
}
psk=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
bad_psk=ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

# Starts our server: ours COUNT [KEY=VALUE ...]; sets $port, and $log, which has its words.
ours()
{
    count=$1
    shift
    log=$work/ours.$checks.log
    : >"$log"
    "$pipe" trust="$work/trust.ini" "$@" listen 127.0.0.1:0 "$count" 2>"$log" >/dev/null &
    pids="$pids $!"
    await "$log" '^listening at' || { cat "$log"; exit 1; }
    port=$(sed -n 's/^listening at .*://p' "$log")
}

# Our client against their server at $port: theirs NAME [KEY=VALUE ...]; the output goes to $out, its words to $log
client()
{
    out=$work/client.$checks.out log=$work/client.$checks.log
    echo "hello drafter" | timeout 20 "$pipe" trust="$work/trust.ini" "$@" connect "127.0.0.1:$port" \
        "${times:-1}" >"$out" 2>"$log"
}

# A port that is free now.
free_port()
{
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

finish()
{
    echo "$checks checks, $faults faults"
    test $faults -eq 0
    exit
}
