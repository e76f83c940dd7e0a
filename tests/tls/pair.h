/* SPDX-License-Identifier: BSD-2-Clause */
/* A client and a server of the tls transport in memory, and what may happen between them. */
#ifndef TESTS_TLS_PAIR_H
#define TESTS_TLS_PAIR_H

#include "handshake.h"

#define PAIR_RECORDS 64
#define PAIR_BYTES 16384

/* One direction: records on their way. */
struct pair_wire {
    uint8_t bytes[PAIR_BYTES];
    size_t starts[PAIR_RECORDS + 1]; /* the last is the end */
    unsigned count;
};

struct pair_side {
    struct tls_credentials *credentials;
    struct tls_tickets *tickets;
    struct tls_context context;
    struct tls_secrets secrets;
    struct tls_handshake handshake;
};

struct pair {
    struct pair_side client, server;
    struct tls_session session; /* of the last ticket; ticket_length 0: none */
};

extern const char *pair_stranger; /* the one identity that nobody trusts, or NULL */
extern int64_t pair_time;         /* what both take for the time */

/* Two nodes with keys, raw and in certificates, that trust each other. */
struct pair *pair_new(void);
void pair_free(struct pair *pair);

/* Another key for a side; its certificate may be of the past. */
void pair_rekey(struct pair_side *side, bool expired);

/* Begins anew; with a session or a shared key where given. */
void pair_begin(struct pair *pair, const struct tls_session *session, const struct tls_psk *psk);

/* The records that a side has put out, split; its output is emptied. */
void pair_collect(struct pair_side *side, struct pair_wire *ret_wire);

/*
 * Gives a record to a side: 0 or its failure.  What comes after its end must be sealed with the keys of the
 * connection, or it has failed.
 */
int pair_give(struct pair_side *side, const uint8_t *record, size_t length);

/* Lets both talk to their ends; `changed`, when not NULL, may replace each flight on its way. */
void pair_run(struct pair *pair, void (*change)(void *opaque, bool to_server, struct pair_wire *wire),
              void *opaque);

/* Whether both are done and know each other. */
bool pair_agrees(const struct pair *pair);

/* Takes the ticket out of the server's last record, as the client would. */
bool pair_take_ticket(struct pair *pair);

#endif
