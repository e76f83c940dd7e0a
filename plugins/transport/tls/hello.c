/* SPDX-License-Identifier: BSD-2-Clause */
#include "hello.h"

#include "alert.h"
#include "message.h"

/* SHA-256 of "HelloRetryRequest": the random that makes a ServerHello one (section 4.1.3). */
static const uint8_t retry_random[TLS_RANDOM_SIZE] = {
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};

bool tls_next_extension(struct tls_extensions *extensions, unsigned *ret_type,
                        struct tls_reader *ret_body, int *ret_alert)
{
    unsigned type;

    *ret_alert = TLS_OK;
    if (tls_read_all(&extensions->list))
        return false;
    type = (unsigned)tls_get_number(&extensions->list, 2);
    *ret_body = tls_get_vector(&extensions->list, 2);
    if (extensions->list.failed ||
        extensions->count == sizeof(extensions->seen) / sizeof(*extensions->seen)) {
        *ret_alert = TLS_ALERT_DECODE_ERROR;
        return false;
    }
    for (unsigned i = 0; i < extensions->count; i++)
        if (extensions->seen[i] == type) {
            *ret_alert = TLS_ALERT_ILLEGAL_PARAMETER;
            return false;
        }
    extensions->seen[extensions->count++] = (uint16_t)type;
    *ret_type = type;
    return true;
}

int tls_stray_extension(unsigned type)
{
    switch (type) {
    case TLS_EXT_SUPPORTED_GROUPS:
    case TLS_EXT_SIGNATURE_ALGORITHMS:
    case TLS_EXT_ALPN:
    case TLS_EXT_CLIENT_CERTIFICATE_TYPE:
    case TLS_EXT_SERVER_CERTIFICATE_TYPE:
    case TLS_EXT_PRE_SHARED_KEY:
    case TLS_EXT_SUPPORTED_VERSIONS:
    case TLS_EXT_COOKIE:
    case TLS_EXT_PSK_MODES:
    case TLS_EXT_KEY_SHARE:
        return TLS_ALERT_ILLEGAL_PARAMETER;
    default: /* it was never offered */
        return TLS_ALERT_UNSUPPORTED_EXTENSION;
    }
}

bool tls_find_number(struct tls_reader body, unsigned width, unsigned wanted, bool *ret_found)
{
    struct tls_reader list = tls_get_vector(&body, width);

    if (!tls_read_all(&body) || list.left == 0 || list.left % 2)
        return false;
    while (list.left > 0)
        *ret_found |= tls_get_number(&list, 2) == wanted;
    return true;
}

bool tls_alpn_parse(struct tls_reader body, bool *ret_ours, bool *ret_alone)
{
    struct tls_reader list = tls_get_vector(&body, 2);
    unsigned count = 0;

    *ret_ours = false;
    while (list.left > 0 && !list.failed) {
        struct tls_reader name = tls_get_vector(&list, 1);

        if (name.failed || name.left == 0)
            return false;
        *ret_ours |= name.left == strlen(TLS_ALPN) && !memcmp(name.at, TLS_ALPN, name.left);
        count++;
    }
    *ret_alone = *ret_ours && count == 1;
    return tls_read_all(&body) && tls_read_all(&list) && count > 0;
}

/* A vector of bytes as a set of certificate types. */
static bool read_types(struct tls_reader body, unsigned *ret_types)
{
    struct tls_reader list = tls_get_vector(&body, 1);

    if (!tls_read_all(&body) || list.left == 0)
        return false;
    *ret_types = 0x80000000u; /* the extension is there */
    while (list.left > 0) {
        unsigned type = (unsigned)tls_get_number(&list, 1);

        if (type < 8)
            *ret_types |= 1u << type;
    }
    return true;
}

static bool read_psk_modes(struct tls_reader body, struct tls_client_hello *hello)
{
    struct tls_reader list = tls_get_vector(&body, 1);

    if (!tls_read_all(&body) || list.left == 0)
        return false;
    hello->psk_modes = true;
    while (list.left > 0)
        hello->psk_dhe |= tls_get_number(&list, 1) == 1;
    return true;
}

static int read_shares(struct tls_reader body, struct tls_client_hello *hello)
{
    struct tls_reader list = tls_get_vector(&body, 2);

    hello->key_share = true;
    while (list.left > 0 && !list.failed) {
        unsigned group = (unsigned)tls_get_number(&list, 2);
        struct tls_reader share = tls_get_vector(&list, 2);

        if (share.failed || share.left == 0)
            return TLS_ALERT_DECODE_ERROR;
        if (group != TLS_X25519)
            continue;
        if (hello->share || share.left != TLS_SHARE_SIZE)
            return TLS_ALERT_ILLEGAL_PARAMETER;
        hello->share = share.at;
    }
    return tls_read_all(&body) && tls_read_all(&list) ? TLS_OK : TLS_ALERT_DECODE_ERROR;
}

static int read_psks(struct tls_reader body, struct tls_client_hello *hello)
{
    struct tls_reader identities = tls_get_vector(&body, 2), binders;
    unsigned count = 0, binder_count = 0;

    hello->binders_length = body.left;
    binders = tls_get_vector(&body, 2);
    if (!tls_read_all(&body) || identities.left == 0 || binders.left == 0)
        return TLS_ALERT_DECODE_ERROR;
    while (identities.left > 0) {
        struct tls_reader identity = tls_get_vector(&identities, 2);
        uint32_t age = (uint32_t)tls_get_number(&identities, 4);
        struct tls_reader binder = tls_get_vector(&binders, 1);

        if (identities.failed || identity.left == 0)
            return TLS_ALERT_DECODE_ERROR;
        binder_count += !binder.failed;
        if (binder.left < 32)
            return binder.failed ? TLS_ALERT_ILLEGAL_PARAMETER : TLS_ALERT_DECODE_ERROR;
        if (count < TLS_PSKS_MAX)
            hello->psks[hello->psk_count++] = (struct tls_psk_offer){
                .identity = identity.at, .identity_length = identity.left, .age = age,
                .binder = binder.left == TLS_BINDER_SIZE ? binder.at : NULL};
        count++;
    }
    return tls_read_all(&binders) && count == binder_count ? TLS_OK : TLS_ALERT_ILLEGAL_PARAMETER;
}

static int check(bool fine)
{
    return fine ? TLS_OK : TLS_ALERT_DECODE_ERROR;
}

static int read_client_extension(unsigned type, struct tls_reader body, struct tls_client_hello *hello)
{
    bool alone;
    struct tls_reader cookie;

    switch (type) {
    case TLS_EXT_SUPPORTED_VERSIONS:
        return check(tls_find_number(body, 1, TLS_VERSION_1_3, &hello->tls_1_3));
    case TLS_EXT_SUPPORTED_GROUPS:
        hello->groups = true;
        return check(tls_find_number(body, 2, TLS_X25519, &hello->group));
    case TLS_EXT_SIGNATURE_ALGORITHMS:
        hello->signature_algorithms = true;
        return check(tls_find_number(body, 2, TLS_ED25519, &hello->ed25519));
    case TLS_EXT_ALPN:
        return check(tls_alpn_parse(body, &hello->alpn, &alone));
    case TLS_EXT_CLIENT_CERTIFICATE_TYPE:
        return check(read_types(body, &hello->client_types));
    case TLS_EXT_SERVER_CERTIFICATE_TYPE:
        return check(read_types(body, &hello->server_types));
    case TLS_EXT_PSK_MODES:
        return check(read_psk_modes(body, hello));
    case TLS_EXT_KEY_SHARE:
        return read_shares(body, hello);
    case TLS_EXT_PRE_SHARED_KEY:
        return read_psks(body, hello);
    case TLS_EXT_EARLY_DATA:
        hello->early_data = true;
        return check(tls_read_all(&body));
    case TLS_EXT_COOKIE:
        cookie = tls_get_vector(&body, 2);
        hello->cookie = cookie.at;
        hello->cookie_length = cookie.left;
        return check(tls_read_all(&body) && cookie.left > 0);
    default:
        return TLS_OK; /* a server ignores what it does not know */
    }
}

static int read_client_extensions(struct tls_reader list, struct tls_client_hello *hello)
{
    struct tls_extensions extensions = {.list = list};
    struct tls_reader body;
    unsigned type;
    int alert;

    while (tls_next_extension(&extensions, &type, &body, &alert)) {
        if (hello->binders_length) /* section 4.2.11: the PSKs are last */
            return TLS_ALERT_ILLEGAL_PARAMETER;
        alert = read_client_extension(type, body, hello);
        if (alert != TLS_OK)
            return alert;
    }
    return alert;
}

int tls_client_hello_parse(const uint8_t *bytes, size_t length, struct tls_client_hello *ret_hello)
{
    struct tls_reader body = tls_reader(bytes, length), session_id, suites, compressions, list;
    struct tls_client_hello hello = {0};
    unsigned version = (unsigned)tls_get_number(&body, 2);
    int alert;

    hello.random = tls_get_bytes(&body, TLS_RANDOM_SIZE);
    session_id = tls_get_vector(&body, 1);
    suites = tls_get_vector(&body, 2);
    compressions = tls_get_vector(&body, 1);
    if (body.failed || session_id.left > TLS_SESSION_ID_MAX || suites.left == 0 || suites.left % 2 ||
        compressions.left == 0)
        return TLS_ALERT_DECODE_ERROR;
    /* Sections 4.2.1 and D.5: what counts is in an extension, which hellos of older times do not have. */
    if (version <= TLS_SSL_3 || body.left == 0)
        return TLS_ALERT_PROTOCOL_VERSION;
    hello.session_id = session_id.at;
    hello.session_id_length = session_id.left;
    while (suites.left > 0)
        hello.suite |= tls_get_number(&suites, 2) == TLS_CHACHA20_POLY1305_SHA256;
    list = tls_get_vector(&body, 2);
    if (!tls_read_all(&body))
        return TLS_ALERT_DECODE_ERROR;
    alert = read_client_extensions(list, &hello);
    if (alert != TLS_OK)
        return alert;
    if (!hello.tls_1_3)
        return TLS_ALERT_PROTOCOL_VERSION;
    if (compressions.left != 1 || compressions.at[0] != 0)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    *ret_hello = hello;
    return TLS_OK;
}

size_t tls_message_begin(struct tls_writer *writer, unsigned type)
{
    tls_put_number(writer, 1, type);
    return tls_put_begin(writer, 3);
}

static size_t extension_begin(struct tls_writer *writer, enum tls_extension type)
{
    tls_put_number(writer, 2, type);
    return tls_put_begin(writer, 2);
}

/* An extension that is a list of one 16-bit number, whose length has `width` bytes (0: no list). */
static void put_one(struct tls_writer *writer, enum tls_extension type, unsigned width, unsigned number)
{
    size_t mark = extension_begin(writer, type);

    if (width)
        tls_put_number(writer, width, 2);
    tls_put_number(writer, 2, number);
    tls_put_end(writer, 2, mark);
}

void tls_alpn_write(struct tls_writer *writer)
{
    size_t mark = extension_begin(writer, TLS_EXT_ALPN);

    tls_put_number(writer, 2, 1 + strlen(TLS_ALPN));
    tls_put_number(writer, 1, strlen(TLS_ALPN));
    tls_put_bytes(writer, TLS_ALPN, strlen(TLS_ALPN));
    tls_put_end(writer, 2, mark);
}

/* Raw keys first: they are shorter and have no dates. */
static void put_types(struct tls_writer *writer, enum tls_extension type, unsigned types)
{
    size_t mark, list;

    if (!types)
        return;
    mark = extension_begin(writer, type);
    list = tls_put_begin(writer, 1);
    if (types & TLS_TYPE_RAW)
        tls_put_number(writer, 1, 2);
    if (types & TLS_TYPE_X509)
        tls_put_number(writer, 1, 0);
    tls_put_end(writer, 1, list);
    tls_put_end(writer, 2, mark);
}

static void put_share(struct tls_writer *writer, const uint8_t *share, bool list)
{
    size_t mark = extension_begin(writer, TLS_EXT_KEY_SHARE);

    if (list)
        tls_put_number(writer, 2, 4 + TLS_SHARE_SIZE);
    tls_put_number(writer, 2, TLS_X25519);
    tls_put_number(writer, 2, TLS_SHARE_SIZE);
    tls_put_bytes(writer, share, TLS_SHARE_SIZE);
    tls_put_end(writer, 2, mark);
}

static void put_psks(struct tls_writer *writer, const struct tls_client_hello *hello,
                     size_t *ret_binders_length)
{
    static const uint8_t zeros[TLS_BINDER_SIZE];
    size_t mark, list;

    *ret_binders_length = 0;
    if (!hello->psk_count)
        return;
    mark = extension_begin(writer, TLS_EXT_PRE_SHARED_KEY);
    list = tls_put_begin(writer, 2);
    for (unsigned i = 0; i < hello->psk_count; i++) {
        tls_put_number(writer, 2, hello->psks[i].identity_length);
        tls_put_bytes(writer, hello->psks[i].identity, hello->psks[i].identity_length);
        tls_put_number(writer, 4, hello->psks[i].age);
    }
    tls_put_end(writer, 2, list);
    *ret_binders_length = writer->used;
    list = tls_put_begin(writer, 2);
    for (unsigned i = 0; i < hello->psk_count; i++) {
        tls_put_number(writer, 1, TLS_BINDER_SIZE);
        tls_put_bytes(writer, zeros, TLS_BINDER_SIZE);
    }
    tls_put_end(writer, 2, list);
    tls_put_end(writer, 2, mark);
    *ret_binders_length = writer->used - *ret_binders_length;
}

void tls_client_hello_write(const struct tls_client_hello *hello, struct tls_writer *writer,
                            size_t *ret_binders_length)
{
    size_t message = tls_message_begin(writer, TLS_CLIENT_HELLO), list, mark;

    tls_put_number(writer, 2, TLS_LEGACY_VERSION);
    tls_put_bytes(writer, hello->random, TLS_RANDOM_SIZE);
    tls_put_number(writer, 1, hello->session_id_length);
    tls_put_bytes(writer, hello->session_id, hello->session_id_length);
    tls_put_number(writer, 2, 2);
    tls_put_number(writer, 2, TLS_CHACHA20_POLY1305_SHA256);
    tls_put_number(writer, 2, 0x0100); /* one compression method: none */
    list = tls_put_begin(writer, 2);
    put_one(writer, TLS_EXT_SUPPORTED_VERSIONS, 1, TLS_VERSION_1_3);
    put_one(writer, TLS_EXT_SUPPORTED_GROUPS, 2, TLS_X25519);
    put_share(writer, hello->share, true);
    if (hello->signature_algorithms)
        put_one(writer, TLS_EXT_SIGNATURE_ALGORITHMS, 2, TLS_ED25519);
    tls_alpn_write(writer);
    put_types(writer, TLS_EXT_CLIENT_CERTIFICATE_TYPE, hello->client_types);
    put_types(writer, TLS_EXT_SERVER_CERTIFICATE_TYPE, hello->server_types);
    put_one(writer, TLS_EXT_PSK_MODES, 0, 0x0101); /* one mode: psk_dhe_ke */
    if (hello->cookie) {
        mark = extension_begin(writer, TLS_EXT_COOKIE);
        tls_put_number(writer, 2, hello->cookie_length);
        tls_put_bytes(writer, hello->cookie, hello->cookie_length);
        tls_put_end(writer, 2, mark);
    }
    put_psks(writer, hello, ret_binders_length);
    tls_put_end(writer, 2, list);
    tls_put_end(writer, 3, message);
}

static int read_server_share(struct tls_reader body, struct tls_server_hello *hello)
{
    struct tls_reader share;

    hello->key_share = true;
    if (tls_get_number(&body, 2) != TLS_X25519)
        return body.failed ? TLS_ALERT_DECODE_ERROR : TLS_ALERT_ILLEGAL_PARAMETER;
    if (hello->retry)
        return check(tls_read_all(&body));
    share = tls_get_vector(&body, 2);
    hello->share = share.at;
    if (!tls_read_all(&body))
        return TLS_ALERT_DECODE_ERROR;
    return share.left == TLS_SHARE_SIZE ? TLS_OK : TLS_ALERT_ILLEGAL_PARAMETER;
}

static int read_server_extension(unsigned type, struct tls_reader body, struct tls_server_hello *hello,
                                 bool *ret_tls_1_3)
{
    struct tls_reader cookie;

    switch (type) {
    case TLS_EXT_SUPPORTED_VERSIONS:
        *ret_tls_1_3 = tls_get_number(&body, 2) == TLS_VERSION_1_3;
        if (!tls_read_all(&body))
            return TLS_ALERT_DECODE_ERROR;
        return *ret_tls_1_3 ? TLS_OK : TLS_ALERT_ILLEGAL_PARAMETER; /* section 4.2.1 */
    case TLS_EXT_KEY_SHARE:
        return read_server_share(body, hello);
    case TLS_EXT_PRE_SHARED_KEY:
        if (hello->retry)
            return TLS_ALERT_UNSUPPORTED_EXTENSION;
        hello->psk = true;
        hello->psk_index = (unsigned)tls_get_number(&body, 2);
        return check(tls_read_all(&body));
    case TLS_EXT_COOKIE:
        if (!hello->retry)
            return TLS_ALERT_ILLEGAL_PARAMETER;
        cookie = tls_get_vector(&body, 2);
        hello->cookie = cookie.at;
        hello->cookie_length = cookie.left;
        return check(tls_read_all(&body) && cookie.left > 0);
    default:
        return TLS_OK; /* judged by who knows the version */
    }
}

static bool is_of_server_hello(unsigned type)
{
    return type == TLS_EXT_SUPPORTED_VERSIONS || type == TLS_EXT_KEY_SHARE || type == TLS_EXT_PRE_SHARED_KEY ||
           type == TLS_EXT_COOKIE;
}

static int read_server_extensions(struct tls_reader list, struct tls_server_hello *hello)
{
    struct tls_extensions extensions = {.list = list};
    struct tls_reader body;
    bool tls_1_3 = false;
    int alert, stray = TLS_OK;
    unsigned type;

    while (tls_next_extension(&extensions, &type, &body, &alert)) {
        if (!is_of_server_hello(type))
            stray = tls_stray_extension(type);
        alert = read_server_extension(type, body, hello, &tls_1_3);
        if (alert != TLS_OK)
            return alert;
    }
    if (alert != TLS_OK)
        return alert;
    return tls_1_3 ? stray : TLS_ALERT_PROTOCOL_VERSION; /* of TLS 1.2, others are in their place */
}

int tls_server_hello_parse(const uint8_t *bytes, size_t length, struct tls_server_hello *ret_hello)
{
    struct tls_reader body = tls_reader(bytes, length), session_id, list;
    struct tls_server_hello hello = {0};
    unsigned version = (unsigned)tls_get_number(&body, 2), suite, compression;
    int alert;

    hello.random = tls_get_bytes(&body, TLS_RANDOM_SIZE);
    session_id = tls_get_vector(&body, 1);
    suite = (unsigned)tls_get_number(&body, 2);
    compression = (unsigned)tls_get_number(&body, 1);
    if (body.failed || session_id.left > TLS_SESSION_ID_MAX)
        return TLS_ALERT_DECODE_ERROR;
    if (version != TLS_LEGACY_VERSION || body.left == 0)
        return TLS_ALERT_PROTOCOL_VERSION;
    hello.session_id = session_id.at;
    hello.session_id_length = session_id.left;
    hello.retry = !memcmp(hello.random, retry_random, TLS_RANDOM_SIZE);
    list = tls_get_vector(&body, 2);
    if (!tls_read_all(&body))
        return TLS_ALERT_DECODE_ERROR;
    alert = read_server_extensions(list, &hello);
    if (alert != TLS_OK)
        return alert;
    if (suite != TLS_CHACHA20_POLY1305_SHA256 || compression != 0)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    if (hello.retry ? !hello.key_share && !hello.cookie : !hello.key_share)
        return hello.retry ? TLS_ALERT_ILLEGAL_PARAMETER : TLS_ALERT_MISSING_EXTENSION;
    *ret_hello = hello;
    return TLS_OK;
}

void tls_server_hello_write(const struct tls_server_hello *hello, struct tls_writer *writer)
{
    size_t message = tls_message_begin(writer, TLS_SERVER_HELLO), list;

    tls_put_number(writer, 2, TLS_LEGACY_VERSION);
    tls_put_bytes(writer, hello->retry ? retry_random : hello->random, TLS_RANDOM_SIZE);
    tls_put_number(writer, 1, hello->session_id_length);
    tls_put_bytes(writer, hello->session_id, hello->session_id_length);
    tls_put_number(writer, 2, TLS_CHACHA20_POLY1305_SHA256);
    tls_put_number(writer, 1, 0);
    list = tls_put_begin(writer, 2);
    put_one(writer, TLS_EXT_SUPPORTED_VERSIONS, 0, TLS_VERSION_1_3);
    if (hello->retry)
        put_one(writer, TLS_EXT_KEY_SHARE, 0, TLS_X25519);
    else
        put_share(writer, hello->share, false);
    if (hello->psk)
        put_one(writer, TLS_EXT_PRE_SHARED_KEY, 0, hello->psk_index);
    tls_put_end(writer, 2, list);
    tls_put_end(writer, 3, message);
}
