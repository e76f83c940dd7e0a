/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection after its handshake, and the instance it belongs to.
 *
 * One thread reads, one writes, any may shut down.  The reader's side has no lock.  The writer's has one,
 * because shutdown and a reader that must complain send records, too; it is held across I/O, so whoever
 * is not the writer only tries it.  A KeyUpdate that the peer asked for is a flag that the writer finds.
 */
#ifndef TLS_CONNECTION_H
#define TLS_CONNECTION_H

#include "handshake.h"
#include "vault.h"

#include <drafter/transport.h>
#include <stdatomic.h>

/* Records that are sealed, or read, between two calls of the transport below. */
#define TLS_BATCH 16
#define TLS_BATCH_SIZE (TLS_BATCH * (size_t)TLS_SEALED_SIZE(TLS_PLAINTEXT_MAX))

struct tls_config {
    const char *key, *certificate, *psk_file, *psk_identity;
    bool require_client, resumption;
    uint64_t handshake_timeout; /* ns */
    uint64_t handshakes_max;
    uint64_t rekey_after; /* bytes */
};

struct tls_instance {
    const struct tls_config *config;
    const struct drafter_transport_ops *next;
    void *next_instance;
    struct tls_credentials *credentials;
    struct tls_tickets *tickets;
    const struct tls_psk *psk; /* that we offer as a client, or NULL */
    struct tls_context context;
    struct tls_vault vault; /* for the secrets of connections */

    pthread_mutex_t lock;
    struct tls_connection *connections; /* lock */
    struct tls_listener *listeners;     /* lock */
};

struct tls_connection {
    struct tls_instance *instance;
    struct tls_connection *previous, *following; /* instance->lock */
    void *below;                                 /* of the transport below */
    /* NULL until there may be some.  Of them the receiving side is the reader's, the sending side write_lock's. */
    struct tls_secrets *secrets;
    bool server;
    char address[TLS_ADDRESS_MAX]; /* a client's: where it connected to, for its tickets */
    char peer[TLS_IDENTITY_SIZE], peer_name[64];
    atomic_bool cancelled;
    atomic_uint timeout_ms;

    /* The reader alone. */
    uint8_t *in; /* TLS_BATCH_SIZE bytes, once something is read */
    size_t in_start, in_end;
    struct tls_opened opened; /* the record whose content is being taken */
    bool ended;               /* close_notify came */
    int read_error;           /* what every further read returns */
    uint8_t *post;            /* a handshake message that came in pieces */
    size_t post_length;
    bool heard; /* some data came */

    /* Under write_lock. */
    pthread_mutex_t write_lock;
    uint8_t *out;              /* TLS_BATCH_SIZE bytes, once something is written */
    size_t out_start, out_end; /* what the transport below did not take in time */
    uint8_t *again;            /* what is in a record that was begun, until the caller comes with it */
    size_t again_length, again_done;
    uint64_t sealed;           /* bytes under the present keys */
    bool closed;               /* close_notify was sent, or cannot be any more */

    atomic_bool update_wanted; /* the peer asked for a KeyUpdate of ours */
};

/* A connection over `below`, which it takes even when it fails; NULL: no memory. */
struct tls_connection *tls_connection_new(struct tls_instance *instance, void *below);

/* Gives it locked memory for its secrets: 0 or -ENOMEM. */
int tls_connection_reserve(struct tls_connection *connection);

/* After its handshake: takes over who the peer is. */
void tls_connection_settle(struct tls_connection *connection, const struct tls_handshake *handshake);

/*
 * Runs a handshake to its end, until `deadline` (drafter_now_ns()).  0 or a negative errno; the reason is
 * in the handshake.
 */
int tls_drive(struct tls_connection *connection, struct tls_handshake *handshake, uint64_t deadline);

/*
 * Sends an alert if the writer is not busy, waiting for the transport below for at most `patience_ms`;
 * nothing is written after it.
 */
void tls_send_last_alert(struct tls_connection *connection, int alert, unsigned patience_ms);

/* The operations of drafter/transport.h. */
ssize_t tls_readv(void *connection, const struct iovec *vector, int count);
ssize_t tls_writev(void *connection, const struct iovec *vector, int count);
int tls_set_timeout(void *connection, unsigned timeout_ms);
void tls_shutdown(void *connection);
void tls_close(void *connection);
int tls_peer_name(void *connection, char *buffer, size_t size);
int tls_peer_identity(void *connection, char *buffer, size_t size);
ssize_t tls_unsent(void *connection);

int tls_listen(void *instance, const char *address, void **ret_listener, struct drafter_error *err);
int tls_accept(void *instance, void *listener, void **ret_connection, struct drafter_error *err);
int tls_listener_address(void *listener, char *buffer, size_t size);
void tls_listener_shutdown(void *listener);
void tls_listener_close(void *listener);

#endif
