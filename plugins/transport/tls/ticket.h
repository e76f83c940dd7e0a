/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Resumption (RFC 8446, section 2.2).  A server keeps nothing: its tickets hold the PSK and whose it is,
 * sealed under a key that lives in memory for an hour or two.  A client keeps the newest ticket of each
 * address; all streams of a session use the same one, which costs them no forward secrecy, for every
 * handshake exchanges keys.
 */
#ifndef TLS_TICKET_H
#define TLS_TICKET_H

#include "credentials.h"
#include "message.h"

#include <pthread.h>

#define TLS_TICKET_LIFETIME 3600 /* seconds */
#define TLS_SESSIONS_MAX 16
#define TLS_ADDRESS_MAX 320

/* What both sides remember of a handshake that may be resumed. */
struct tls_session {
    char identity[TLS_IDENTITY_SIZE]; /* of the peer; "" when it did not say */
    uint8_t psk[32];
    int64_t issued; /* seconds since 1970; the server: when the client proved itself */
    /* The client only: */
    uint32_t lifetime, age_add;
    uint8_t ticket[TLS_TICKET_MAX];
    size_t ticket_length;
};

struct tls_tickets;

/* NULL when there is no memory.  All functions may be called by any thread. */
struct tls_tickets *tls_tickets_new(void);
void tls_tickets_free(struct tls_tickets *tickets); /* NULL is allowed */

/* What is to be locked of them. */
size_t tls_tickets_size(void);

/* The server: a ticket of at most TLS_TICKET_MAX bytes; 0 when it was not possible. */
size_t tls_ticket_seal(struct tls_tickets *tickets, const struct tls_session *session, int64_t now,
                       uint8_t ret_ticket[TLS_TICKET_MAX]);

/* The server: identity, PSK and time of one of its tickets that is still good. */
bool tls_ticket_open(struct tls_tickets *tickets, const uint8_t *ticket, size_t length, int64_t now,
                     struct tls_session *ret_session);

/* The client: keeps the session for the address, in place of an older one. */
void tls_session_keep(struct tls_tickets *tickets, const char *address,
                      const struct tls_session *session);

/* The client: the session of the address, if it has not expired. */
bool tls_session_find(struct tls_tickets *tickets, const char *address, int64_t now,
                      struct tls_session *ret_session);

/* The client: the server did not want it. */
void tls_session_forget(struct tls_tickets *tickets, const char *address);

#endif
