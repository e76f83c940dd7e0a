/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ClientHello, ServerHello and HelloRetryRequest (RFC 8446, section 4.1) as bytes and as structures.  Pure
 * functions; the pointers of a structure lead into the bytes it was read from.
 */
#ifndef TLS_HELLO_H
#define TLS_HELLO_H

#include "codec.h"

#define TLS_RANDOM_SIZE 32
#define TLS_SHARE_SIZE 32 /* X25519 */
#define TLS_SESSION_ID_MAX 32
#define TLS_BINDER_SIZE 32
#define TLS_PSKS_MAX 4 /* that are looked at */
#define TLS_COOKIE_MAX 512

/* The only ones that there are here. */
#define TLS_VERSION_1_3 0x0304
#define TLS_LEGACY_VERSION 0x0303
#define TLS_SSL_3 0x0300
#define TLS_CHACHA20_POLY1305_SHA256 0x1303
#define TLS_X25519 0x001d
#define TLS_ED25519 0x0807
#define TLS_ALPN "drafter/1"

/* Certificate types (RFC 7250) as bits of a set. */
#define TLS_TYPE_X509 0x1u
#define TLS_TYPE_RAW 0x4u

enum tls_extension {
    TLS_EXT_SUPPORTED_GROUPS = 10,
    TLS_EXT_SIGNATURE_ALGORITHMS = 13,
    TLS_EXT_ALPN = 16,
    TLS_EXT_CLIENT_CERTIFICATE_TYPE = 19,
    TLS_EXT_SERVER_CERTIFICATE_TYPE = 20,
    TLS_EXT_PRE_SHARED_KEY = 41,
    TLS_EXT_EARLY_DATA = 42,
    TLS_EXT_SUPPORTED_VERSIONS = 43,
    TLS_EXT_COOKIE = 44,
    TLS_EXT_PSK_MODES = 45,
    TLS_EXT_KEY_SHARE = 51,
};

struct tls_psk_offer {
    const uint8_t *identity;
    size_t identity_length;
    uint32_t age; /* obfuscated */
    const uint8_t *binder; /* TLS_BINDER_SIZE bytes, or NULL for one of another hash; when read */
};

struct tls_client_hello {
    const uint8_t *random; /* TLS_RANDOM_SIZE */
    const uint8_t *session_id;
    size_t session_id_length;
    const uint8_t *share; /* TLS_SHARE_SIZE; NULL: none for our group */
    const uint8_t *cookie;
    size_t cookie_length;
    bool tls_1_3, suite, groups, group, signature_algorithms, ed25519, alpn, psk_modes, psk_dhe, key_share;
    bool early_data;
    unsigned client_types, server_types; /* sets of certificate types; 0: the extension is not there */
    struct tls_psk_offer psks[TLS_PSKS_MAX];
    unsigned psk_count;    /* of those in psks */
    size_t binders_length; /* the last bytes of the message, from the length of the binders on */
};

/*
 * Reads the body of a ClientHello: TLS_OK, or the alert that it deserves.  What it lacks for us is left to
 * the caller to judge.
 */
int tls_client_hello_parse(const uint8_t *body, size_t length, struct tls_client_hello *ret_hello);

/*
 * Writes a whole ClientHello message that offers what this implementation does.  Of `hello` the random,
 * session id, share, cookie, certificate types, `signature_algorithms`, and the PSKs are taken; binders are
 * left zero, in the last `ret_binders_length` bytes.
 */
void tls_client_hello_write(const struct tls_client_hello *hello, struct tls_writer *writer,
                            size_t *ret_binders_length);

struct tls_server_hello {
    bool retry;
    const uint8_t *random;
    const uint8_t *session_id;
    size_t session_id_length;
    const uint8_t *share; /* NULL in a HelloRetryRequest */
    bool key_share; /* HelloRetryRequest: it names a group */
    const uint8_t *cookie;
    size_t cookie_length;
    bool psk;
    unsigned psk_index;
};

int tls_server_hello_parse(const uint8_t *body, size_t length, struct tls_server_hello *ret_hello);

/* A whole ServerHello message, or a HelloRetryRequest for our group when `retry` is set. */
void tls_server_hello_write(const struct tls_server_hello *hello, struct tls_writer *writer);

/* Starts a handshake message; the result goes to tls_put_end with a width of 3. */
size_t tls_message_begin(struct tls_writer *writer, unsigned type);

/* Steps through extensions, each at most once: false at the end, or with `ret_alert` set. */
struct tls_extensions {
    struct tls_reader list;
    uint16_t seen[48];
    unsigned count;
};

bool tls_next_extension(struct tls_extensions *extensions, unsigned *ret_type,
                        struct tls_reader *ret_body, int *ret_alert);

/* The alert for an extension that is not of the message that it is in (section 4.2). */
int tls_stray_extension(unsigned type);

/* A ProtocolNameList in which ours is (or, of a server, which is ours alone): false when it is malformed. */
bool tls_alpn_parse(struct tls_reader body, bool *ret_ours, bool *ret_alone);
void tls_alpn_write(struct tls_writer *writer);

/* A list of 16-bit numbers behind a length: false when malformed. */
bool tls_find_number(struct tls_reader body, unsigned width, unsigned wanted, bool *ret_found);

#endif
