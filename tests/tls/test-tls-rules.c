/* SPDX-License-Identifier: BSD-2-Clause */
/* What RFC 8446 forbids a peer to say in a handshake, and the alert that each of it deserves. */
#include "../unit/unit.h"
#include "pair.h"

#define BYTES(text) text, sizeof(text) - 1
#define NOTHING NULL, 0
/* Where the extensions of a message begin when it has neither a session id nor a context. */
#define IN_CLIENT_HELLO 45
#define IN_SERVER_HELLO 42
#define IN_ENCRYPTED_EXTENSIONS 4
#define IN_REQUEST 5
#define ROOM 4096

/* A message whose extension of this type is gone, or (`keep`) is there still, and has this one at its end. */
struct change {
    unsigned type;
    bool keep;
    const char *body;
    size_t length;
    int alert;
};

static struct pair *pair;
static struct pair_wire wire;
static uint8_t message[ROOM];
static size_t message_length;

static void setup(void)
{
    pair = pair_new();
    pair_begin(pair, NULL, NULL);
}

static void teardown(void)
{
    pair_free(pair);
}

static void expect_refusal(const struct pair_side *by, int alert)
{
    ck_assert_msg(by->handshake.state == TLS_FAILED, "it is not refused, but deserves %s",
                  tls_alert_name(alert));
    ck_assert(!by->handshake.alerted);
    ck_assert_msg(by->handshake.alert == alert, "%s (%s), not %s", tls_alert_name(by->handshake.alert),
                  by->handshake.reason, tls_alert_name(alert));
    ck_assert_uint_gt(by->handshake.out_length, 0);
}

static void take_message(const uint8_t *bytes, size_t length)
{
    ck_assert_uint_le(length, sizeof(message));
    memcpy(message, bytes, length);
    message_length = length;
}

/* Changes `message`, whose extensions begin at `list`. */
static void edit(size_t list, const struct change *change)
{
    uint8_t bytes[ROOM];
    struct tls_writer writer = tls_writer(bytes, sizeof(bytes));
    struct tls_reader reader = tls_reader(message + list + 2, message_length - list - 2);
    size_t mark;

    tls_put_bytes(&writer, message, list);
    mark = tls_put_begin(&writer, 2);
    while (reader.left > 0) {
        unsigned type = (unsigned)tls_get_number(&reader, 2);
        struct tls_reader body = tls_get_vector(&reader, 2);

        if (type == change->type && !change->keep)
            continue;
        tls_put_number(&writer, 2, type);
        tls_put_number(&writer, 2, body.left);
        tls_put_bytes(&writer, body.at, body.left);
    }
    if (change->body) {
        tls_put_number(&writer, 2, change->type);
        tls_put_number(&writer, 2, change->length);
        tls_put_bytes(&writer, change->body, change->length);
    }
    tls_put_end(&writer, 2, mark);
    tls_put_end(&writer, 3, 1);
    ck_assert(!writer.failed && !reader.failed);
    take_message(bytes, writer.used);
}

/* In the clear. */
static int give(struct pair_side *to, enum tls_content type, const void *bytes, size_t length)
{
    uint8_t record[ROOM + 5] = {(uint8_t)type, 3, 3, (uint8_t)(length >> 8), (uint8_t)length};

    memcpy(record + 5, bytes, length);
    return pair_give(to, record, 5 + length);
}

/* Under the keys that this side expects of its peer. */
static int seal(struct pair_side *to, enum tls_content type, const void *bytes, size_t length)
{
    const struct iovec piece = {(void *)bytes, length};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    struct tls_keys keys = to->secrets.receive;
    uint8_t record[TLS_SEALED_SIZE(ROOM)];

    tls_seal(&keys, type, &cursor, length, record);
    return pair_give(to, record, TLS_SEALED_SIZE(length));
}

static void hear_client_hello(void)
{
    pair_collect(&pair->client, &wire);
    take_message(wire.bytes + 5, wire.starts[1] - 5);
}

/* The server's answer goes to nobody yet; its ServerHello is the message. */
static void hear_server_hello(void)
{
    hear_client_hello();
    ck_assert_int_eq(pair_give(&pair->server, wire.bytes, wire.starts[1]), 0);
    pair_collect(&pair->server, &wire);
    take_message(wire.bytes + 5, wire.starts[1] - 5);
}

/* Both have keys; each waits for the other. */
static void exchange_hellos(void)
{
    hear_server_hello();
    ck_assert_int_eq(give(&pair->client, TLS_HANDSHAKE, message, message_length), 0);
    ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_EXTENSIONS);
    ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    ck_assert(sodium_is_zero(pair->client.secrets.ephemeral, sizeof(pair->client.secrets.ephemeral)));
    ck_assert(sodium_is_zero(pair->server.secrets.ephemeral, sizeof(pair->server.secrets.ephemeral)));
}

/* The client takes what the server said of itself up to its certificate. */
static void let_client_wait_for_certificate(void)
{
    exchange_hellos();
    ck_assert_int_eq(pair_give(&pair->client, wire.bytes + wire.starts[1], wire.starts[2] - wire.starts[1]), 0);
    ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_CERTIFICATE_OR_REQUEST);
}

/* ---- hellos ----------------------------------------------------------------------------------- */

#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static const struct change client_hellos[] = {
    {TLS_EXT_SUPPORTED_VERSIONS, false, NOTHING, TLS_ALERT_PROTOCOL_VERSION},
    {TLS_EXT_SUPPORTED_VERSIONS, false, BYTES("\2\3\3"), TLS_ALERT_PROTOCOL_VERSION},
    {TLS_EXT_SUPPORTED_VERSIONS, false, BYTES("\1\3"), TLS_ALERT_DECODE_ERROR},
    {TLS_EXT_KEY_SHARE, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
    {TLS_EXT_SUPPORTED_GROUPS, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
    {TLS_EXT_SUPPORTED_GROUPS, false, BYTES("\0\2\0\x17"), TLS_ALERT_HANDSHAKE_FAILURE},
    {TLS_EXT_SIGNATURE_ALGORITHMS, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
    {TLS_EXT_SIGNATURE_ALGORITHMS, false, BYTES("\0\2\4\3"), TLS_ALERT_HANDSHAKE_FAILURE},
    {TLS_EXT_ALPN, false, NOTHING, TLS_ALERT_NO_APPLICATION_PROTOCOL},
    {TLS_EXT_ALPN, false, BYTES("\0\3\2h2"), TLS_ALERT_NO_APPLICATION_PROTOCOL},
    {TLS_EXT_ALPN, false, BYTES("\0\1\0"), TLS_ALERT_DECODE_ERROR},
    {TLS_EXT_ALPN, true, BYTES("\0\3\2h2"), TLS_ALERT_ILLEGAL_PARAMETER}, /* twice */
    {0xfafa, false, BYTES(""), TLS_OK},
    {TLS_EXT_EARLY_DATA, false, BYTES(""), TLS_OK}, /* it will be skipped */
    {TLS_EXT_EARLY_DATA, false, BYTES("x"), TLS_ALERT_DECODE_ERROR},
    {TLS_EXT_COOKIE, false, BYTES("\0\0"), TLS_ALERT_DECODE_ERROR},
    {TLS_EXT_KEY_SHARE, false, BYTES("\0\5\0\x1d\0\1x"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_KEY_SHARE, false, "\0\x24\0\x1d\0\x20" ZEROS, 38,
     TLS_ALERT_ILLEGAL_PARAMETER}, /* no point */
    {TLS_EXT_CLIENT_CERTIFICATE_TYPE, false, BYTES("\1\1"), TLS_ALERT_UNSUPPORTED_CERTIFICATE},
    {TLS_EXT_SERVER_CERTIFICATE_TYPE, false, BYTES("\0"), TLS_ALERT_DECODE_ERROR},
};

START_TEST(a_client_hello_is_refused_for_what_it_lacks)
{
    const struct change *change = &client_hellos[_i];

    hear_client_hello();
    edit(IN_CLIENT_HELLO, change);
    give(&pair->server, TLS_HANDSHAKE, message, message_length);
    if (change->alert == TLS_OK)
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    else
        expect_refusal(&pair->server, change->alert);
}
END_TEST

#define BINDER "0123456789abcdef0123456789abcdef"
#define PSKS "\0\7\0\1x\0\0\0\0\0\x21\x20" BINDER

START_TEST(shared_keys_are_offered_last_and_with_how_they_may_be_used)
{
    static const struct change psks = {TLS_EXT_PRE_SHARED_KEY, false, BYTES(PSKS), 0};
    static const struct change more[] = {
        {TLS_EXT_PSK_MODES, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
        {0xfafa, false, BYTES("x"), TLS_ALERT_ILLEGAL_PARAMETER}, /* behind them */
        {TLS_EXT_PRE_SHARED_KEY, false, BYTES("\0\7\0\1x\0\0\0\0\0\x42\x20" BINDER "\x20" BINDER),
         TLS_ALERT_ILLEGAL_PARAMETER}, /* a binder for nothing */
        {TLS_EXT_PRE_SHARED_KEY, false, BYTES("\0\7\0\1x\0\0\0\0\0\2\1x"), TLS_ALERT_DECODE_ERROR},
        {0xfafa, false, NOTHING, TLS_OK}, /* unknown ones mean that certificates are used */
    };

    hear_client_hello();
    edit(IN_CLIENT_HELLO, &psks);
    edit(IN_CLIENT_HELLO, &more[_i]);
    give(&pair->server, TLS_HANDSHAKE, message, message_length);
    if (more[_i].alert == TLS_OK)
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    else
        expect_refusal(&pair->server, more[_i].alert);
}
END_TEST

/* With psk_ke a stolen key would open what was recorded: such a key is as good as none. */
START_TEST(a_shared_key_without_a_key_exchange_is_not_used)
{
    static const struct change modes = {TLS_EXT_PSK_MODES, true, NOTHING, 0};
    struct tls_psk *ours = &pair->client.credentials->psks[0], *theirs = &pair->server.credentials->psks[0];
    uint8_t *at;

    *ours = *theirs = (struct tls_psk){.identity = "node", .key = {1, 2, 3}, .length = 40};
    pair->server.credentials->psk_count = 1;
    pair_begin(pair, NULL, ours);
    hear_client_hello();
    edit(IN_CLIENT_HELLO, &modes);
    at = memmem(message, message_length, "\0\x2d\0\2\1\1", 6);
    ck_assert_ptr_nonnull(at);
    at[5] = 0;
    give(&pair->server, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->server, TLS_ALERT_UNKNOWN_PSK_IDENTITY);
}
END_TEST

START_TEST(the_old_fields_of_a_client_hello_are_what_they_must_be)
{
    static const struct {
        size_t at;
        uint8_t byte;
        int alert;
    } changes[] = {
        {42, 1, TLS_ALERT_HANDSHAKE_FAILURE}, /* no suite of ours */
        {44, 1, TLS_ALERT_ILLEGAL_PARAMETER}, /* compression */
        {43, 0, TLS_ALERT_DECODE_ERROR},
        {40, 1, TLS_ALERT_DECODE_ERROR},
    };

    hear_client_hello();
    ck_assert_uint_ne(message[changes[_i].at], changes[_i].byte);
    message[changes[_i].at] = changes[_i].byte;
    give(&pair->server, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->server, changes[_i].alert);
}
END_TEST

static const struct change server_hellos[] = {
    {TLS_EXT_SUPPORTED_VERSIONS, false, NOTHING, TLS_ALERT_PROTOCOL_VERSION},
    {TLS_EXT_SUPPORTED_VERSIONS, false, BYTES("\3\3"), TLS_ALERT_ILLEGAL_PARAMETER}, /* section 4.2.1 */
    {TLS_EXT_SUPPORTED_VERSIONS, true, BYTES("\3\4"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_KEY_SHARE, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
    {TLS_EXT_KEY_SHARE, false, BYTES("\0\x17\0\1x"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_ALPN, false, BYTES("\0\3\2h2"), TLS_ALERT_ILLEGAL_PARAMETER},      /* not in this message */
    {TLS_EXT_COOKIE, false, BYTES("\0\1x"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_PRE_SHARED_KEY, false, BYTES("\0\0"), TLS_ALERT_UNSUPPORTED_EXTENSION}, /* not offered */
    {0xfafa, false, BYTES(""), TLS_ALERT_UNSUPPORTED_EXTENSION},
};

START_TEST(a_server_hello_is_refused_for_what_it_should_not_have)
{
    hear_server_hello();
    edit(IN_SERVER_HELLO, &server_hellos[_i]);
    give(&pair->client, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->client, server_hellos[_i].alert);
    ck_assert_uint_eq(pair->client.handshake.out[1], 3); /* section 5.1: only a first hello says 3.1 */
    ck_assert_uint_eq(pair->client.handshake.out[2], 3);
}
END_TEST

START_TEST(a_server_hello_answers_the_hello_that_was_sent)
{
    static const uint8_t offsets[] = {39, 40, 41}; /* session id echo, suite, compression */
    uint8_t longer[ROOM];

    hear_server_hello();
    if (_i == 0) { /* a session id of one byte */
        memcpy(longer, message, message_length);
        longer[38] = 1;
        longer[39] = 'x';
        memcpy(longer + 40, message + 39, message_length - 39);
        longer[3]++;
        give(&pair->client, TLS_HANDSHAKE, longer, message_length + 1);
    } else {
        message[offsets[_i]] = 1;
        give(&pair->client, TLS_HANDSHAKE, message, message_length);
    }
    expect_refusal(&pair->client, TLS_ALERT_ILLEGAL_PARAMETER);
}
END_TEST

START_TEST(a_psk_that_was_not_offered_is_not_chosen)
{
    static const struct change psk = {TLS_EXT_PRE_SHARED_KEY, false, BYTES("\0\1"), 0};
    struct tls_psk *ours = &pair->client.credentials->psks[0];

    *ours = (struct tls_psk){.identity = "node", .key = {1, 2, 3}, .length = 40};
    hear_server_hello();
    pair_begin(pair, NULL, _i ? ours : NULL);
    if (_i)
        edit(IN_SERVER_HELLO, &psk);
    give(&pair->client, TLS_HANDSHAKE, message, message_length);
    if (_i)
        expect_refusal(&pair->client, TLS_ALERT_ILLEGAL_PARAMETER);
    else
        ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_EXTENSIONS);
}
END_TEST

/* A client that insists on a key beforehand does without no more than a server. */
START_TEST(a_server_that_declines_a_shared_key_is_refused)
{
    struct tls_psk *ours = &pair->client.credentials->psks[0];

    *ours = (struct tls_psk){.identity = "node", .key = {1, 2, 3}, .length = 40};
    hear_server_hello();
    pair_begin(pair, NULL, ours);
    give(&pair->client, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->client, TLS_ALERT_HANDSHAKE_FAILURE);
}
END_TEST

/* ---- HelloRetryRequest ------------------------------------------------------------------------ */

static void retry_request(const struct change *changes, size_t count)
{
    const struct tls_server_hello retry = {.retry = true};
    struct tls_writer writer = tls_writer(message, sizeof(message));

    tls_server_hello_write(&retry, &writer);
    message_length = writer.used;
    for (size_t i = 0; i < count; i++)
        edit(IN_SERVER_HELLO, &changes[i]);
}

START_TEST(a_cookie_is_brought_back_once)
{
    static const struct change cookie[] = {{TLS_EXT_KEY_SHARE, false, NOTHING, 0},
                                           {TLS_EXT_COOKIE, false, BYTES("\0\3abc"), 0}};

    pair_collect(&pair->client, &wire);
    retry_request(cookie, 2);
    ck_assert_int_eq(give(&pair->client, TLS_HANDSHAKE, message, message_length), 0);
    ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_SERVER_HELLO);
    ck_assert_ptr_nonnull(memmem(pair->client.handshake.out, pair->client.handshake.out_length,
                                 "\0\x2c\0\5\0\3abc", 9));
    ck_assert_uint_eq(pair->client.handshake.out[2], 3);
    tls_handshake_drop_out(&pair->client.handshake);
    give(&pair->client, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->client, TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

START_TEST(a_retry_must_change_something)
{
    static char cookie[602] = "\2\x58";
    static const struct {
        struct change first, second;
    } changes[] = {
        {{0xfafa, false, NOTHING, TLS_ALERT_ILLEGAL_PARAMETER}, {0}}, /* the group that it has */
        {{TLS_EXT_KEY_SHARE, false, NOTHING, TLS_ALERT_ILLEGAL_PARAMETER}, {0}},
        {{TLS_EXT_KEY_SHARE, false, BYTES("\0\x17"), TLS_ALERT_ILLEGAL_PARAMETER}, {0}},
        {{TLS_EXT_COOKIE, false, BYTES("\0\1x"), TLS_ALERT_ILLEGAL_PARAMETER}, {0}},
        {{TLS_EXT_KEY_SHARE, false, NOTHING, TLS_ALERT_HANDSHAKE_FAILURE}, {TLS_EXT_COOKIE, false, cookie, 602, 0}},
        {{TLS_EXT_PRE_SHARED_KEY, false, BYTES("\0\0"), TLS_ALERT_UNSUPPORTED_EXTENSION}, {0}},
    };

    retry_request(&changes[_i].first, 1);
    edit(IN_SERVER_HELLO, &changes[_i].second);
    give(&pair->client, TLS_HANDSHAKE, message, message_length);
    expect_refusal(&pair->client, changes[_i].first.alert);
}
END_TEST

/* The client's first hello has no share; its second is another than the first but for that. */
START_TEST(a_second_hello_is_the_first_with_a_share)
{
    static const struct change no_share = {TLS_EXT_KEY_SHARE, false, BYTES("\0\0"), 0};
    uint8_t first[ROOM];
    size_t length;

    hear_client_hello();
    memcpy(first, message, message_length);
    length = message_length;
    edit(IN_CLIENT_HELLO, &no_share);
    ck_assert_int_eq(give(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_HELLO);
    if (_i == 0) {
        give(&pair->server, TLS_HANDSHAKE, message, message_length); /* still none */
    } else {
        first[6] ^= _i == 1; /* the random */
        give(&pair->server, TLS_HANDSHAKE, first, length);
    }
    if (_i == 2)
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    else
        expect_refusal(&pair->server, TLS_ALERT_ILLEGAL_PARAMETER);
}
END_TEST

/* ---- what is sealed --------------------------------------------------------------------------- */

static const struct change encrypted_extensions[] = {
    {TLS_EXT_ALPN, false, NOTHING, TLS_ALERT_NO_APPLICATION_PROTOCOL},
    {TLS_EXT_ALPN, false, BYTES("\0\3\2h2"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_ALPN, false, BYTES("\0\15\11drafter/1\2h2"), TLS_ALERT_ILLEGAL_PARAMETER}, /* two */
    {TLS_EXT_KEY_SHARE, false, BYTES("x"), TLS_ALERT_ILLEGAL_PARAMETER}, /* not in this message */
    {TLS_EXT_SUPPORTED_VERSIONS, false, BYTES("\3\4"), TLS_ALERT_ILLEGAL_PARAMETER},
    {TLS_EXT_EARLY_DATA, false, BYTES(""), TLS_ALERT_UNSUPPORTED_EXTENSION},
    {0xfafa, false, BYTES(""), TLS_ALERT_UNSUPPORTED_EXTENSION},
    {TLS_EXT_SUPPORTED_GROUPS, false, BYTES("\0\2\0\x17"), TLS_OK}, /* which a server may tell */
    {TLS_EXT_CLIENT_CERTIFICATE_TYPE, false, BYTES("\1"), TLS_ALERT_ILLEGAL_PARAMETER}, /* OpenPGP */
    {TLS_EXT_CLIENT_CERTIFICATE_TYPE, false, BYTES("\2"), TLS_OK},
};

START_TEST(encrypted_extensions_are_those_that_were_asked_for)
{
    const struct tls_encrypted_extensions usual = {.alpn = true};
    struct tls_writer writer = tls_writer(message, sizeof(message));

    exchange_hellos();
    tls_encrypted_extensions_write(&usual, &writer);
    message_length = writer.used;
    edit(IN_ENCRYPTED_EXTENSIONS, &encrypted_extensions[_i]);
    seal(&pair->client, TLS_HANDSHAKE, message, message_length);
    if (encrypted_extensions[_i].alert == TLS_OK)
        ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_CERTIFICATE_OR_REQUEST);
    else
        expect_refusal(&pair->client, encrypted_extensions[_i].alert);
}
END_TEST

START_TEST(a_request_must_allow_our_signatures)
{
    static const struct change requests[] = {
        {TLS_EXT_SIGNATURE_ALGORITHMS, false, NOTHING, TLS_ALERT_MISSING_EXTENSION},
        {TLS_EXT_SIGNATURE_ALGORITHMS, false, BYTES("\0\2\4\3"), TLS_ALERT_HANDSHAKE_FAILURE},
        {TLS_EXT_SIGNATURE_ALGORITHMS, true, BYTES("\0\2\4\3"), TLS_ALERT_ILLEGAL_PARAMETER},
        {0xfafa, false, BYTES(""), TLS_OK},
    };
    struct tls_writer writer = tls_writer(message, sizeof(message));

    let_client_wait_for_certificate();
    tls_certificate_request_write(&writer);
    message_length = writer.used;
    edit(IN_REQUEST, &requests[_i]);
    seal(&pair->client, TLS_HANDSHAKE, message, message_length);
    if (requests[_i].alert == TLS_OK)
        ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_SERVER_CERTIFICATE);
    else
        expect_refusal(&pair->client, requests[_i].alert);
}
END_TEST

/* A Certificate message by hand: its context, then entries of the key and so many bytes of extensions. */
static void certificate_message(size_t context, unsigned entries, size_t extensions)
{
    struct tls_writer writer = tls_writer(message, sizeof(message));
    size_t whole = tls_message_begin(&writer, TLS_CERTIFICATE), list;

    tls_put_number(&writer, 1, context);
    tls_put_bytes(&writer, "cccc", context);
    list = tls_put_begin(&writer, 3);
    for (unsigned i = 0; i < entries; i++) {
        tls_put_number(&writer, 3, TLS_SPKI_SIZE);
        tls_put_bytes(&writer, pair->client.credentials->spki, TLS_SPKI_SIZE);
        tls_put_number(&writer, 2, extensions);
        tls_put_bytes(&writer, "\xfa\xfa\0\0", extensions);
    }
    tls_put_end(&writer, 3, list);
    tls_put_end(&writer, 3, whole);
    message_length = writer.used;
}

START_TEST(a_raw_key_comes_alone)
{
    static const struct {
        size_t context;
        unsigned entries;
        size_t extensions;
        int alert;
    } messages[] = {
        {0, 1, 0, TLS_OK},
        {0, 0, 0, TLS_ALERT_CERTIFICATE_REQUIRED},
        {1, 1, 0, TLS_ALERT_ILLEGAL_PARAMETER},
        {0, 1, 4, TLS_ALERT_UNSUPPORTED_EXTENSION},
        {0, 2, 0, TLS_ALERT_ILLEGAL_PARAMETER}, /* section 4.4.2 */
    };

    exchange_hellos();
    certificate_message(messages[_i].context, messages[_i].entries, messages[_i].extensions);
    seal(&pair->server, TLS_HANDSHAKE, message, message_length);
    if (messages[_i].alert == TLS_OK)
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_VERIFY);
    else
        expect_refusal(&pair->server, messages[_i].alert);
}
END_TEST

START_TEST(a_signature_is_one_of_ed25519)
{
    uint8_t verify[4 + 4 + 64] = {TLS_CERTIFICATE_VERIFY, 0, 0, 68, 8, 7, 0, 64};

    exchange_hellos();
    certificate_message(0, 1, 0);
    ck_assert_int_eq(seal(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    verify[5] -= (uint8_t)_i;
    seal(&pair->server, TLS_HANDSHAKE, verify, sizeof(verify));
    expect_refusal(&pair->server, _i ? TLS_ALERT_ILLEGAL_PARAMETER : TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

/* Whoever has the handshake's keys, but heard another handshake. */
START_TEST(a_finished_is_of_this_handshake)
{
    uint8_t finished[4 + 32 + 4] = {TLS_FINISHED, 0, 0, 32}; /* and the beginning of another message */
    struct pair_side *sides[] = {&pair->client, &pair->server};

    exchange_hellos();
    sides[_i % 2]->handshake.state = _i % 2 ? TLS_WAIT_CLIENT_FINISHED : TLS_WAIT_SERVER_FINISHED;
    seal(sides[_i % 2], TLS_HANDSHAKE, finished, sizeof(finished) - (_i / 2 ? 0 : 4));
    expect_refusal(sides[_i % 2], _i / 2 ? TLS_ALERT_UNEXPECTED_MESSAGE : TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

/* Messages with no sense in them, but out of place before that is looked at. */
START_TEST(messages_come_in_their_order)
{
    static const uint8_t types[] = {0, TLS_CLIENT_HELLO, TLS_SERVER_HELLO, TLS_NEW_SESSION_TICKET, 5,
                                    TLS_CERTIFICATE_REQUEST, TLS_CERTIFICATE_VERIFY, TLS_FINISHED, TLS_KEY_UPDATE,
                                    TLS_MESSAGE_HASH};
    struct pair_side *sides[] = {&pair->client, &pair->server};
    uint8_t bytes[] = {types[_i / 2], 0, 0, 1, 0};

    exchange_hellos();
    seal(sides[_i % 2], TLS_HANDSHAKE, bytes, sizeof(bytes));
    expect_refusal(sides[_i % 2], TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

/* ---- early data (sections 4.2.10 and D.3) ------------------------------------------------------ */

static const struct change early_data = {TLS_EXT_EARLY_DATA, false, BYTES(""), 0};

/* A record of `length` bytes that no key of ours opens. */
static int give_early_data(size_t length)
{
    static const uint8_t bytes[ROOM];

    return give(&pair->server, TLS_APPLICATION_DATA, bytes, length);
}

START_TEST(early_data_is_skipped_until_a_record_can_be_opened)
{
    hear_client_hello();
    if (_i == 0)
        edit(IN_CLIENT_HELLO, &early_data);
    ck_assert_int_eq(give(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    if (_i == 1) { /* nobody announced any */
        give_early_data(100);
        expect_refusal(&pair->server, TLS_ALERT_BAD_RECORD_MAC);
        return;
    }
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(give_early_data(i * 1000), 0);
    ck_assert_int_eq(give(&pair->server, TLS_CHANGE_CIPHER_SPEC, "\1", 1), 0);
    certificate_message(0, 1, 0);
    ck_assert_int_eq(seal(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_VERIFY);
    give_early_data(100);
    expect_refusal(&pair->server, TLS_ALERT_BAD_RECORD_MAC);
}
END_TEST

START_TEST(early_data_before_a_second_hello_is_skipped)
{
    static const struct change no_share = {TLS_EXT_KEY_SHARE, false, BYTES("\0\0"), 0};
    uint8_t second[ROOM];
    size_t length;

    hear_client_hello();
    if (_i == 2) /* which must not announce any again */
        edit(IN_CLIENT_HELLO, &early_data);
    memcpy(second, message, message_length);
    length = message_length;
    edit(IN_CLIENT_HELLO, &no_share);
    if (_i != 1)
        edit(IN_CLIENT_HELLO, &early_data);
    ck_assert_int_eq(give(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    give_early_data(1000);
    if (_i == 1) {
        expect_refusal(&pair->server, TLS_ALERT_UNEXPECTED_MESSAGE);
        return;
    }
    give(&pair->server, TLS_HANDSHAKE, second, length);
    if (_i == 2) {
        expect_refusal(&pair->server, TLS_ALERT_ILLEGAL_PARAMETER);
        return;
    }
    ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    give_early_data(1000);
    expect_refusal(&pair->server, TLS_ALERT_BAD_RECORD_MAC);
}
END_TEST

START_TEST(early_data_is_not_skipped_without_end)
{
    static const struct change no_share = {TLS_EXT_KEY_SHARE, false, BYTES("\0\0"), 0};
    size_t skipped = 0;

    hear_client_hello();
    edit(IN_CLIENT_HELLO, &early_data);
    if (_i)
        edit(IN_CLIENT_HELLO, &no_share);
    ck_assert_int_eq(give(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    while (skipped <= TLS_HANDSHAKE_LIMIT && !give_early_data(1000))
        skipped += 1000;
    expect_refusal(&pair->server, TLS_ALERT_UNEXPECTED_MESSAGE);
    ck_assert_uint_ge(skipped, TLS_HANDSHAKE_LIMIT - 2000);
    ck_assert_uint_le(skipped, TLS_HANDSHAKE_LIMIT);
}
END_TEST

/* Longer than any record of a handshake: no buffer is made for it. */
START_TEST(a_long_record_of_early_data_costs_no_memory)
{
    static const uint8_t header[] = {TLS_APPLICATION_DATA, 3, 3, 0x38, 0};
    struct tls_handshake *server = &pair->server.handshake;

    hear_client_hello();
    edit(IN_CLIENT_HELLO, &early_data);
    ck_assert_int_eq(give(&pair->server, TLS_HANDSHAKE, message, message_length), 0);
    memcpy(tls_handshake_room(server), header, sizeof(header));
    ck_assert_int_eq(tls_handshake_expect(server), 0x3800);
    ck_assert(server->unwanted);
    ck_assert_ptr_eq(server->in, server->few);
}
END_TEST

/* ---- records ---------------------------------------------------------------------------------- */

/* Section 5: dropped where it is what it should be, and never when it is sealed. */
START_TEST(change_cipher_spec_is_the_one_that_means_nothing)
{
    struct pair_side *sides[] = {&pair->client, &pair->server}, *side = sides[_i % 2];

    if (_i / 2 == 3) {
        give(&pair->server, TLS_CHANGE_CIPHER_SPEC, "\1", 1); /* before any hello */
        expect_refusal(&pair->server, TLS_ALERT_UNEXPECTED_MESSAGE);
        return;
    }
    exchange_hellos();
    ck_assert_int_eq(give(side, TLS_CHANGE_CIPHER_SPEC, "\1", 1), 0);
    ck_assert_int_ne(side->handshake.state, TLS_FAILED);
    if (_i / 2 == 0)
        seal(side, TLS_CHANGE_CIPHER_SPEC, "\1", 1);
    else if (_i / 2 == 1)
        give(side, TLS_CHANGE_CIPHER_SPEC, "\2", 1);
    else
        give(side, TLS_CHANGE_CIPHER_SPEC, "\1\1", 2);
    expect_refusal(side, TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

START_TEST(who_only_says_what_means_nothing_is_cut_off)
{
    int count = 0;

    exchange_hellos();
    while (count < TLS_HANDSHAKE_LIMIT && !give(&pair->server, TLS_CHANGE_CIPHER_SPEC, "\1", 1))
        count++;
    expect_refusal(&pair->server, TLS_ALERT_RECORD_OVERFLOW);
    ck_assert_int_le(count, TLS_HANDSHAKE_LIMIT / (TLS_RECORD_HEADER + 1));
}
END_TEST

START_TEST(no_other_record_is_between_the_parts_of_a_message)
{
    exchange_hellos();
    ck_assert_int_eq(seal(&pair->server, TLS_HANDSHAKE, "\13\0", 2), 0);
    give(&pair->server, TLS_CHANGE_CIPHER_SPEC, "\1", 1);
    expect_refusal(&pair->server, TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

/* Section 5.4 */
START_TEST(records_that_say_nothing_are_refused)
{
    static const enum tls_content types[] = {TLS_HANDSHAKE, TLS_ALERT, TLS_APPLICATION_DATA, 0};

    exchange_hellos();
    seal(&pair->server, types[_i], "", 0);
    expect_refusal(&pair->server, TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

START_TEST(nothing_follows_a_message_after_which_keys_change)
{
    struct pair_side *sides[] = {&pair->client, &pair->server};

    if (_i)
        hear_client_hello();
    else
        hear_server_hello();
    memcpy(message + message_length, _i ? "\13\0\0\0" : "\10\0\0\0", 4); /* what would come next, in the clear */
    give(sides[_i], TLS_HANDSHAKE, message, message_length + 4);
    expect_refusal(sides[_i], TLS_ALERT_UNEXPECTED_MESSAGE);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))
    tcase_add_loop_test(tests, a_client_hello_is_refused_for_what_it_lacks, 0, COUNT(client_hellos));
    tcase_add_loop_test(tests, shared_keys_are_offered_last_and_with_how_they_may_be_used, 0, 5);
    tcase_add_test(tests, a_shared_key_without_a_key_exchange_is_not_used);
    tcase_add_loop_test(tests, the_old_fields_of_a_client_hello_are_what_they_must_be, 0, 4);
    tcase_add_loop_test(tests, a_server_hello_is_refused_for_what_it_should_not_have, 0, COUNT(server_hellos));
    tcase_add_loop_test(tests, a_server_hello_answers_the_hello_that_was_sent, 0, 3);
    tcase_add_loop_test(tests, a_psk_that_was_not_offered_is_not_chosen, 0, 2);
    tcase_add_test(tests, a_server_that_declines_a_shared_key_is_refused);
    tcase_add_test(tests, a_cookie_is_brought_back_once);
    tcase_add_loop_test(tests, a_retry_must_change_something, 0, 6);
    tcase_add_loop_test(tests, a_second_hello_is_the_first_with_a_share, 0, 3);
    tcase_add_loop_test(tests, encrypted_extensions_are_those_that_were_asked_for, 0, COUNT(encrypted_extensions));
    tcase_add_loop_test(tests, a_request_must_allow_our_signatures, 0, 4);
    tcase_add_loop_test(tests, a_raw_key_comes_alone, 0, 5);
    tcase_add_loop_test(tests, a_signature_is_one_of_ed25519, 0, 2);
    tcase_add_loop_test(tests, a_finished_is_of_this_handshake, 0, 4);
    tcase_add_loop_test(tests, messages_come_in_their_order, 0, 20);
    tcase_add_loop_test(tests, early_data_is_skipped_until_a_record_can_be_opened, 0, 2);
    tcase_add_loop_test(tests, early_data_before_a_second_hello_is_skipped, 0, 3);
    tcase_add_loop_test(tests, early_data_is_not_skipped_without_end, 0, 2);
    tcase_add_test(tests, a_long_record_of_early_data_costs_no_memory);
    tcase_add_loop_test(tests, change_cipher_spec_is_the_one_that_means_nothing, 0, 7);
    tcase_add_test(tests, who_only_says_what_means_nothing_is_cut_off);
    tcase_add_test(tests, no_other_record_is_between_the_parts_of_a_message);
    tcase_add_loop_test(tests, records_that_say_nothing_are_refused, 0, 4);
    tcase_add_loop_test(tests, nothing_follows_a_message_after_which_keys_change, 0, 2);
}

int main(void)
{
    return unit_run("tls-rules", add_tests);
}
