/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where streams of the null transport meet: the listeners by address.  A hub belongs to one instance,
 * or to several that were made over each other.
 *
 * Lock order: hub, then pair.
 */
#ifndef NULL_HUB_H
#define NULL_HUB_H

#include "pair.h"

struct null_hub {
    pthread_mutex_t lock;
    unsigned references;             /* protected by lock, like all below */
    uint64_t serial;                 /* numbers the streams */
    struct null_listener *listeners;
};

struct null_listener {
    struct null_instance *owner;
    struct null_listener *next;         /* of the hub; protected by its lock, like all below */
    pthread_cond_t changed;             /* the queue or `down` */
    struct null_end *first, *last;      /* the queue of streams nobody accepted yet */
    unsigned queued, waiting;           /* streams, and connects that wait for room */
    bool down;
    char address[NULL_NAME_MAX];
};

struct null_hub *null_hub_new(void);
struct null_hub *null_hub_get(struct null_hub *hub);
void null_hub_put(struct null_hub *hub);

int null_hub_listen(struct null_hub *hub, struct null_instance *owner, const char *address,
                    struct null_listener **ret_listener, struct drafter_error *err);
void null_listener_shutdown(struct null_hub *hub, struct null_listener *listener);
void null_listener_free(struct null_hub *hub, struct null_listener *listener);

/* Any listener of `owner`, or NULL. */
struct null_listener *null_hub_owned(struct null_hub *hub, const struct null_instance *owner);

/* Queues `far` at the listener of `address`, waiting for room in its queue. */
int null_hub_connect(struct null_hub *hub, const char *address, unsigned backlog,
                     unsigned timeout_ms, struct null_end *near, struct null_end *far,
                     struct drafter_error *err);

int null_hub_accept(struct null_hub *hub, struct null_listener *listener, struct null_end **ret_end,
                    struct drafter_error *err);

#endif
