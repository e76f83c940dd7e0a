/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accepts peers.  The first stream of a session says HELLO and becomes its control stream; further ones
 * say JOIN with its token.  A thread per connection; that of a session's first stream runs the session.
 */
#ifndef ROLE_SERVE_H
#define ROLE_SERVE_H

#include "migrate/source.h"

#define SERVER_SESSIONS_MAX 256
#define SERVER_ADDRESSES_MAX 16

struct server_ops {
    /*
     * Makes the source for a peer that said HELLO, or refuses it: a negative errno and a message that
     * the peer gets.  Takes `control` when it succeeds.  Called from any thread, after -EBUSY once more when
     * a session whose link is gone gives way.
     */
    int (*begin)(void *opaque, const struct hello *hello, struct stream *control,
                 struct source **ret_source, struct drafter_error *err);

    /* The session is over; the source is freed afterwards. */
    void (*end)(void *opaque, enum source_outcome outcome, const struct drafter_error *error);

    /*
     * Somebody of this identity, "" when unknown, says HELLO with the token of a session that is not under way:
     * *ret_epoch is the epoch that voids what that one believes, with the reason; untouched otherwise, and where
     * that one has no right to know.  NULL: no VM is kept here.  Any thread.
     */
    void (*stranger)(void *opaque, const struct hello *hello, const char *identity, uint64_t *ret_epoch,
                     struct drafter_error *reason);
    void *opaque;
};

struct server;

/*
 * Listens at one or several addresses, separated by blanks; each is logged as event "listening", with its real
 * port.
 */
int server_start(struct instance *transport, const char *addresses, const struct server_ops *ops,
                 struct server **ret_server, struct drafter_error *err);

/*
 * As server_start, with a session that a dead process had, which is taken on success: it is under way ahead of the
 * first peer, as that one would take the answer that it is over for the last word.  As for others, `end` is called.
 */
int server_start_resumed(struct instance *transport, const char *addresses, const struct server_ops *ops,
                         struct source *source, struct server **ret_server, struct drafter_error *err);

/* Asks all sessions to end, and listens on.  From the thread that would stop the server. */
void server_cancel(struct server *server, const char *why);

/* The addresses at which it listens, with their real ports, separated by blanks. */
void server_addresses(const struct server *server, char *buffer, size_t size);

/* Cancels all sessions ("why"), waits for their ends, closes the listener.  NULL is allowed. */
void server_stop(struct server *server, const char *why);

#endif
