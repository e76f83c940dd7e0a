/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the streams of one null instance meet: its listeners by address.
 *
 * Lock order: hub, then pair.
 */
#ifndef NULL_HUB_H
#define NULL_HUB_H

#include "pair.h"

struct null_hub {
    pthread_mutex_t lock;
    uint64_t serial;                 /* numbers the streams; protected by lock */
    struct null_listener *listeners; /* protected by lock */
};

struct null_listener {
    struct null_hub *hub;
    struct null_listener *next;    /* of the hub; protected by its lock, like all below */
    pthread_cond_t changed;        /* the queue or `down` */
    struct null_end *first, *last; /* the queue of streams nobody accepted yet */
    unsigned queued, waiting;      /* streams, and connects that wait for room */
    bool down;
    char address[NULL_NAME_MAX];
};

void null_hub_init(struct null_hub *hub);

/* Closes the listeners that are left. */
void null_hub_release(struct null_hub *hub);

int null_hub_listen(struct null_hub *hub, const char *address, struct null_listener **ret_listener,
                    struct drafter_error *err);
void null_listener_shutdown(struct null_listener *listener);
void null_listener_free(struct null_listener *listener);

/* Queues `far` at the listener of `address`, waiting for room in its queue. */
int null_hub_connect(struct null_hub *hub, const char *address, unsigned backlog,
                     unsigned timeout_ms, struct null_end *near, struct null_end *far,
                     struct drafter_error *err);

int null_listener_accept(struct null_listener *listener, struct null_end **ret_end,
                         struct drafter_error *err);

#endif
