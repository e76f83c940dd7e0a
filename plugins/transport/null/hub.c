/* SPDX-License-Identifier: BSD-2-Clause */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void null_hub_init(struct null_hub *hub)
{
    pthread_mutex_init(&hub->lock, NULL);
    hub->serial = 0;
    hub->listeners = NULL;
}

void null_hub_release(struct null_hub *hub)
{
    while (hub->listeners)
        null_listener_free(hub->listeners);
    pthread_mutex_destroy(&hub->lock);
}

static struct null_listener *null_hub_find(const struct null_hub *hub, const char *address)
{
    struct null_listener *listener = hub->listeners;

    while (listener && strcmp(listener->address, address) != 0)
        listener = listener->next;
    return listener;
}

int null_hub_listen(struct null_hub *hub, const char *address, struct null_listener **ret_listener,
                    struct drafter_error *err)
{
    struct null_listener *listener;

    if (!*address || strlen(address) >= NULL_NAME_MAX)
        return drafter_error_set(err, EINVAL, "an address has 1 to %d bytes, not %zu",
                                 NULL_NAME_MAX - 1, strlen(address));
    listener = calloc(1, sizeof(*listener));
    if (!listener)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    listener->hub = hub;
    snprintf(listener->address, sizeof(listener->address), "%s", address);

    pthread_mutex_lock(&hub->lock);
    if (null_hub_find(hub, address)) {
        pthread_mutex_unlock(&hub->lock);
        free(listener);
        return drafter_error_set(err, EADDRINUSE,
                                 "%s is taken: this instance listens there already", address);
    }
    null_cond_init(&listener->changed);
    listener->next = hub->listeners;
    hub->listeners = listener;
    pthread_mutex_unlock(&hub->lock);
    *ret_listener = listener;
    return 0;
}

static struct null_end *null_listener_take(struct null_listener *listener)
{
    struct null_end *end = listener->first;

    if (!end)
        return NULL;
    listener->first = end->next;
    if (!listener->first)
        listener->last = NULL;
    end->next = NULL;
    listener->queued--;
    return end;
}

static void null_listener_down(struct null_listener *listener)
{
    struct null_end *end;

    listener->down = true;
    while ((end = null_listener_take(listener)))
        null_end_free(end);
    pthread_cond_broadcast(&listener->changed);
}

void null_listener_shutdown(struct null_listener *listener)
{
    pthread_mutex_lock(&listener->hub->lock);
    null_listener_down(listener);
    pthread_mutex_unlock(&listener->hub->lock);
}

void null_listener_free(struct null_listener *listener)
{
    struct null_hub *hub = listener->hub;
    struct null_listener **link = &hub->listeners;

    pthread_mutex_lock(&hub->lock);
    null_listener_down(listener);
    while (*link != listener)
        link = &(*link)->next;
    *link = listener->next;
    while (listener->waiting) /* connects that were waiting for room and are on their way out */
        null_cond_wait(&listener->changed, &hub->lock, 0);
    pthread_mutex_unlock(&hub->lock);
    pthread_cond_destroy(&listener->changed);
    free(listener);
}

/* Waits, under the hub's lock, until the queue has room: 0, -ETIMEDOUT or -ECONNREFUSED. */
static int null_listener_room(struct null_listener *listener, unsigned backlog, uint64_t deadline)
{
    int rc = 0;

    listener->waiting++;
    while (rc == 0 && !listener->down && listener->queued >= backlog)
        rc = null_cond_wait(&listener->changed, &listener->hub->lock, deadline);
    listener->waiting--;
    if (listener->down) {
        pthread_cond_broadcast(&listener->changed); /* null_listener_free counts us */
        return -ECONNREFUSED;
    }
    return listener->queued < backlog ? 0 : rc;
}

int null_hub_connect(struct null_hub *hub, const char *address, unsigned backlog,
                     unsigned timeout_ms, struct null_end *near, struct null_end *far,
                     struct drafter_error *err)
{
    uint64_t deadline = timeout_ms ? drafter_now_ns() + (uint64_t)timeout_ms * 1000000 : 0;
    struct null_listener *listener;
    int rc = -ECONNREFUSED;

    pthread_mutex_lock(&hub->lock);
    listener = null_hub_find(hub, address);
    if (listener)
        rc = null_listener_room(listener, backlog, deadline);
    if (rc == 0) {
        uint64_t serial = ++hub->serial;

        snprintf(near->name, sizeof(near->name), "null:%.200s", address);
        snprintf(far->name, sizeof(far->name), "null:%.200s stream %llu", address,
                 (unsigned long long)serial);
        if (listener->last)
            listener->last->next = far;
        else
            listener->first = far;
        listener->last = far;
        listener->queued++;
        pthread_cond_broadcast(&listener->changed);
    }
    pthread_mutex_unlock(&hub->lock);

    if (rc == -ECONNREFUSED)
        return drafter_error_set(err, ECONNREFUSED,
                                 "nothing listens at %s in this process; start the other side "
                                 "first, or correct the address",
                                 address);
    if (rc < 0)
        return drafter_error_set(err, ETIMEDOUT,
                                 "%s: its listener did not take the connection within %u ms",
                                 address, timeout_ms);
    return 0;
}

int null_listener_accept(struct null_listener *listener, struct null_end **ret_end,
                         struct drafter_error *err)
{
    struct null_hub *hub = listener->hub;
    struct null_end *end = NULL;

    pthread_mutex_lock(&hub->lock);
    while (!listener->down && !(end = null_listener_take(listener)))
        null_cond_wait(&listener->changed, &hub->lock, 0);
    if (end)
        pthread_cond_broadcast(&listener->changed); /* there is room */
    pthread_mutex_unlock(&hub->lock);
    if (!end)
        return drafter_error_set(err, ECANCELED, "%s: the listener was shut down",
                                 listener->address);
    *ret_end = end;
    return 0;
}
