/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The handshake of RFC 8446 as a state machine without I/O: records in, records out.
 *
 *     begin ->  [out: ClientHello]                       a client
 *     record -> [out: ...] -> record -> ... -> done      both
 *
 * Whoever drives it sends what gathers in `out` after each step, also after one that failed: it holds the
 * alert then.  handshake.c has what both sides share, client.c and server.c their states.
 *
 * What a peer costs before it is known is this structure, its secrets and its thread: all messages are read,
 * decrypted and put together in one buffer, which is long only while a message is.
 */
#ifndef TLS_HANDSHAKE_H
#define TLS_HANDSHAKE_H

#include "alert.h"
#include "credentials.h"
#include "message.h"
#include "record.h"
#include "schedule.h"
#include "ticket.h"

#define TLS_HANDSHAKE_IN 6144     /* the largest message, with the record that completes it */
#define TLS_HANDSHAKE_FEW 640     /* what does for most */
#define TLS_HANDSHAKE_OUT 4096    /* the longest flight of ours */
#define TLS_HANDSHAKE_LIMIT 16384 /* all bytes of a peer until it is known */

/* What the handshakes of an instance share.  Constant, but for the tickets, which lock themselves. */
struct tls_context {
    const struct tls_credentials *credentials;
    struct tls_tickets *tickets; /* NULL: no resumption */
    bool require_client;         /* a server wants to know its clients */
    /* Whether the trust file has this identity, and its name there: 0 or a negative errno. */
    int (*trusted)(const char *identity, char *ret_name, size_t size);
    int64_t (*now)(void); /* seconds since 1970 */
};

/* In locked memory.  What is only of the handshake is wiped at its end. */
struct tls_secrets {
    uint8_t stage[TLS_HASH_SIZE]; /* early, handshake, master secret in turn */
    uint8_t ephemeral[crypto_scalarmult_SCALARBYTES];
    uint8_t client_handshake[TLS_HASH_SIZE], server_handshake[TLS_HASH_SIZE];
    uint8_t psks[2][TLS_PSK_MAX]; /* those that the client offers; the server's choice is the first */
    size_t psk_lengths[2];
    /* The rest lives as long as the connection: */
    uint8_t client_traffic[TLS_HASH_SIZE], server_traffic[TLS_HASH_SIZE];
    uint8_t resumption[TLS_HASH_SIZE];
    struct tls_keys send, receive;
};

enum tls_state {
    /* The server */
    TLS_WAIT_CLIENT_HELLO,
    TLS_WAIT_CLIENT_CERTIFICATE,
    TLS_WAIT_CLIENT_VERIFY,
    TLS_WAIT_CLIENT_FINISHED,
    /* The client */
    TLS_WAIT_SERVER_HELLO,
    TLS_WAIT_EXTENSIONS,
    TLS_WAIT_CERTIFICATE_OR_REQUEST,
    TLS_WAIT_SERVER_CERTIFICATE,
    TLS_WAIT_SERVER_VERIFY,
    TLS_WAIT_SERVER_FINISHED,
    /* Both */
    TLS_DONE,
    TLS_FAILED,
};

struct tls_handshake {
    const struct tls_context *context;
    struct tls_secrets *secrets;
    bool server;
    enum tls_state state;
    crypto_hash_sha256_state transcript;
    bool sealed_in, sealed_out; /* records are protected */
    bool retried;               /* there was a HelloRetryRequest */
    bool early;                 /* the server: early data, which it never takes, may come and is skipped */
    bool unwanted;              /* see tls_handshake_expect */
    bool asked;                 /* the client: for its certificate */
    bool resumed;               /* by a ticket */
    bool external;              /* by a key shared beforehand */
    bool tickets_wanted;        /* the server: the client can use them */
    int64_t proven;             /* the server, when it is resumed: since when the client is known */
    unsigned own_type, peer_type; /* certificate types */
    unsigned psk_count;         /* the client: how many it offers */
    const struct tls_psk *psk;  /* the client: the external one that it offers */
    const struct tls_session *session; /* the client: the one that it would resume, or NULL */
    uint8_t random[TLS_RANDOM_SIZE];
    uint8_t share[TLS_SHARE_SIZE];
    uint8_t session_id[TLS_SESSION_ID_MAX];
    size_t session_id_length;

    /* Who the peer is; proven only when the state is TLS_DONE. */
    char peer[TLS_IDENTITY_SIZE]; /* "" when it did not say */
    char peer_name[64];           /* in the trust file */
    uint8_t peer_key[TLS_PUBLIC_KEY_SIZE];

    /* Why it failed. */
    int alert;
    bool alerted; /* the peer said so */
    char reason[200];

    size_t received; /* bytes of the peer, in all */
    size_t in_length; /* of `in`: the part of a message that is here */
    size_t out_length;
    uint8_t *out; /* TLS_HANDSHAKE_OUT bytes while there are any: who is waited for costs none */
    uint8_t *in; /* `few`, or TLS_HANDSHAKE_IN bytes for a record that is longer */
    uint8_t few[TLS_HANDSHAKE_FEW];
};

/*
 * Begins.  `secrets` is zeroed; both it and the context outlive the handshake.  A client may be given a
 * session to resume, which outlives it, too, and one of its PSKs.
 */
void tls_handshake_server(struct tls_handshake *handshake, const struct tls_context *context,
                          struct tls_secrets *secrets);
void tls_handshake_client(struct tls_handshake *handshake, const struct tls_context *context,
                          struct tls_secrets *secrets, const struct tls_session *session,
                          const struct tls_psk *psk);

/*
 * Where the next record goes, header first, and how long it may be.  After five bytes were put there
 * tls_handshake_expect says how many follow (negative: the record cannot be ours, and the handshake has
 * failed), then tls_handshake_record takes it.  But when it sets `unwanted`, the record is only to be skipped:
 * there is no room for what follows, which nobody takes.
 */
uint8_t *tls_handshake_room(struct tls_handshake *handshake);
ssize_t tls_handshake_expect(struct tls_handshake *handshake);

/* Takes the record of `length` bytes, header included.  0, or a negative errno when it failed. */
int tls_handshake_record(struct tls_handshake *handshake, size_t length);

/* What is in `out` was sent, or is not wanted. */
void tls_handshake_drop_out(struct tls_handshake *handshake);

/* Frees what it has; to be called at its end. */
void tls_handshake_release(struct tls_handshake *handshake);

/* Fails for a reason of the driver's, such as its deadline; the alert is put into `out`. */
int tls_handshake_fail(struct tls_handshake *handshake, int alert, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The errno that fits an alert. */
int tls_alert_errno(int alert);

/* Wipes what is only of the handshake; the rest of the secrets stays. */
void tls_secrets_settle(struct tls_secrets *secrets);

/* ---- for client.c and server.c ---- */

struct tls_handshake_message {
    unsigned type;
    const uint8_t *body;
    size_t length;
    const uint8_t *whole; /* with its header, for the transcript */
    size_t whole_length;
    bool last; /* nothing follows it in its record */
};

int tls_server_message(struct tls_handshake *handshake, const struct tls_handshake_message *message);
int tls_client_message(struct tls_handshake *handshake, const struct tls_handshake_message *message);

void tls_transcript_add(struct tls_handshake *handshake, const uint8_t *bytes, size_t length);
void tls_transcript_add_message(struct tls_handshake *handshake,
                                const struct tls_handshake_message *message);
void tls_transcript_hash(const struct tls_handshake *handshake, uint8_t ret_hash[TLS_HASH_SIZE]);

/* The hash of what was said so far and `length` bytes more. */
void tls_transcript_hash_with(const struct tls_handshake *handshake, const uint8_t *bytes, size_t length,
                              uint8_t ret_hash[TLS_HASH_SIZE]);

/* Puts message_hash in the place of the first ClientHello (section 4.4.1). */
void tls_transcript_retry(struct tls_handshake *handshake);

/* Room for a message of ours, in the transcript and in `out` once it is sent. */
struct tls_writer tls_message_room(struct tls_handshake *handshake, uint8_t *buffer, size_t size);
int tls_handshake_send(struct tls_handshake *handshake, const struct tls_writer *message);

/* From the shared secret to the keys of the handshake; the hash goes up to ServerHello. */
int tls_derive_handshake(struct tls_handshake *handshake, const uint8_t *peer_share);

/* From the handshake's to the application's secrets; the hash goes up to the server's Finished. */
void tls_derive_traffic(struct tls_handshake *handshake);

/* Certificate, CertificateVerify and Finished of our own. */
int tls_send_certificate(struct tls_handshake *handshake);
int tls_send_finished(struct tls_handshake *handshake);

/* The peer's Certificate, CertificateVerify and Finished, with which it has proved itself: then it must be trusted. */
int tls_take_certificate(struct tls_handshake *handshake, const struct tls_handshake_message *message);
int tls_take_verify(struct tls_handshake *handshake, const struct tls_handshake_message *message);
int tls_take_finished(struct tls_handshake *handshake, const struct tls_handshake_message *message);

/* The types of certificates that we have, as a set. */
unsigned tls_own_types(const struct tls_handshake *handshake);

#endif
