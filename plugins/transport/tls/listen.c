/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listeners.  A thread accepts streams from below and gives each a thread for its handshake, so that peers
 * that are slow, silent or hostile keep nobody waiting.  Of these there are at most `handshakes-max`; who
 * comes then takes the place of the one that has been at it the longest, which a real peer, done after two
 * round trips, is not.  Those that are done wait to be accepted.
 */
#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define THREAD_STACK (256 * 1024)
#define READY_MAX 128
#define REFUSALS_PER_SECOND 10 /* that are logged */

/* A peer whose handshake is under way, or that waits to be accepted. */
struct newcomer {
    struct tls_listener *listener;
    struct tls_connection *connection; /* listener->lock: NULL when it is about to be closed */
    struct newcomer *previous, *following; /* listener->lock */
    bool given_up;                         /* listener->lock: its place is needed */
};

struct tls_listener {
    struct tls_instance *instance;
    struct tls_listener *previous, *following; /* instance->lock */
    void *below;
    pthread_t acceptor;

    pthread_mutex_t lock; /* taken before a connection's locks */
    pthread_cond_t changed;
    /* All below: under `lock`. */
    struct newcomer *oldest, *newest;
    unsigned count; /* of them */
    struct tls_connection *ready[READY_MAX];
    unsigned ready_count;
    bool stopping;
    struct drafter_error failure; /* why accepting ended, but for stopping */
    uint64_t second; /* in which refusals are counted */
    unsigned refusals;
};

/* ---- handshakes ------------------------------------------------------------------------------- */

/* Whether this refusal is to be logged; an attacker must not fill the disk.  */
static bool may_log(struct tls_listener *listener)
{
    uint64_t second = drafter_now_ns() / 1000000000;
    bool may;

    pthread_mutex_lock(&listener->lock);
    if (listener->second != second) {
        listener->second = second;
        listener->refusals = 0;
    }
    may = listener->refusals++ < REFUSALS_PER_SECOND;
    pthread_mutex_unlock(&listener->lock);
    return may;
}

static bool shake_hands(struct tls_listener *listener, struct tls_connection *connection)
{
    struct tls_instance *instance = listener->instance;
    struct tls_handshake *handshake = malloc(sizeof(*handshake));
    char name[256] = "a peer";
    int rc = -ENOMEM;

    if (handshake) {
        tls_handshake_server(handshake, &instance->context, connection->secrets);
        rc = tls_drive(connection, handshake, drafter_now_ns() + instance->config->handshake_timeout);
    }
    if (!rc) {
        tls_connection_settle(connection, handshake);
    } else if (may_log(listener)) {
        instance->next->peer_name(connection->below, name, sizeof(name));
        drafter_log(rc == -ECANCELED ? DRAFTER_LOG_DEBUG : DRAFTER_LOG_WARNING, "tls",
                    "%s refused: %s", name, handshake ? handshake->reason : "out of memory");
    }
    if (handshake) {
        sodium_memzero(&handshake->transcript, sizeof(handshake->transcript));
        tls_handshake_release(handshake);
    }
    free(handshake);
    return rc == 0;
}

/* Called locked. */
static void newcomer_leave(struct newcomer *newcomer)
{
    struct tls_listener *listener = newcomer->listener;

    if (newcomer->previous)
        newcomer->previous->following = newcomer->following;
    else
        listener->oldest = newcomer->following;
    if (newcomer->following)
        newcomer->following->previous = newcomer->previous;
    else
        listener->newest = newcomer->previous;
    listener->count--;
    pthread_cond_broadcast(&listener->changed);
}

static void *newcomer_main(void *opaque)
{
    struct newcomer *newcomer = opaque;
    struct tls_listener *listener = newcomer->listener;
    struct tls_connection *connection = newcomer->connection, *unwanted = connection;
    bool known = shake_hands(listener, connection);

    pthread_mutex_lock(&listener->lock);
    while (known && !listener->stopping && !newcomer->given_up && listener->ready_count == READY_MAX)
        pthread_cond_wait(&listener->changed, &listener->lock);
    if (known && !listener->stopping && !newcomer->given_up) {
        listener->ready[listener->ready_count++] = connection;
        unwanted = NULL;
    }
    newcomer->connection = NULL; /* nobody shuts it down any more */
    if (!unwanted)
        newcomer_leave(newcomer); /* the listener may be gone from here on */
    pthread_mutex_unlock(&listener->lock);
    if (unwanted) {
        unwanted->closed = true; /* what there was to say was said */
        tls_close(unwanted);     /* before the listener, and so the instance, may be gone */
        pthread_mutex_lock(&listener->lock);
        newcomer_leave(newcomer);
        pthread_mutex_unlock(&listener->lock);
    }
    free(newcomer);
    return NULL;
}

/* ---- accepting -------------------------------------------------------------------------------- */

/* Makes room for one more, then counts it in: false when the listener is stopping. */
static bool newcomer_enter(struct tls_listener *listener, struct newcomer *newcomer)
{
    bool entered;

    pthread_mutex_lock(&listener->lock);
    while (!listener->stopping && listener->count >= listener->instance->config->handshakes_max) {
        struct newcomer *oldest = listener->oldest;

        while (oldest && (oldest->given_up || !oldest->connection))
            oldest = oldest->following;
        if (oldest) {
            oldest->given_up = true;
            listener->instance->next->shutdown(oldest->connection->below);
        }
        pthread_cond_wait(&listener->changed, &listener->lock);
    }
    entered = !listener->stopping;
    if (entered) {
        newcomer->previous = listener->newest;
        if (listener->newest)
            listener->newest->following = newcomer;
        else
            listener->oldest = newcomer;
        listener->newest = newcomer;
        listener->count++;
    }
    pthread_mutex_unlock(&listener->lock);
    return entered;
}

static bool start_thread(struct newcomer *newcomer)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool started;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    started = !pthread_create(&thread, &attributes, newcomer_main, newcomer);
    pthread_attr_destroy(&attributes);
    return started;
}

static void welcome(struct tls_listener *listener, void *below)
{
    struct tls_connection *connection = tls_connection_new(listener->instance, below);
    struct newcomer *newcomer = connection ? calloc(1, sizeof(*newcomer)) : NULL;

    if (newcomer)
        *newcomer = (struct newcomer){.listener = listener, .connection = connection};
    if (newcomer && newcomer_enter(listener, newcomer)) {
        if (start_thread(newcomer))
            return;
        pthread_mutex_lock(&listener->lock);
        newcomer_leave(newcomer);
        pthread_mutex_unlock(&listener->lock);
    }
    free(newcomer);
    if (connection)
        connection->closed = true; /* it has no keys for an alert */
    tls_close(connection);
}

static void *acceptor_main(void *opaque)
{
    static const struct timespec pause = {0, 10000000};
    struct tls_listener *listener = opaque;
    struct tls_instance *instance = listener->instance;

    for (;;) {
        struct drafter_error error = {0};
        void *below;
        int rc = instance->next->accept(instance->next_instance, listener->below, &below, &error);

        if (rc == 0) {
            welcome(listener, below);
            continue;
        }
        if (rc == -EAGAIN) {
            nanosleep(&pause, NULL);
            continue;
        }
        pthread_mutex_lock(&listener->lock);
        listener->failure = error;
        listener->stopping = true;
        pthread_cond_broadcast(&listener->changed);
        pthread_mutex_unlock(&listener->lock);
        return NULL;
    }
}

int tls_accept(void *opaque, void *which, void **ret_connection, struct drafter_error *err)
{
    struct tls_listener *listener = which;
    struct tls_connection *connection = NULL;
    int rc = 0;

    (void)opaque;
    pthread_mutex_lock(&listener->lock);
    while (!listener->stopping && !listener->ready_count)
        pthread_cond_wait(&listener->changed, &listener->lock);
    if (listener->stopping) {
        rc = listener->failure.code ? -listener->failure.code : -ECANCELED;
        if (rc == -ECANCELED)
            drafter_error_set(err, ECANCELED, "the listener was shut down");
        else
            drafter_error_set(err, -rc, "%s", listener->failure.message);
    } else {
        connection = listener->ready[0];
        listener->ready_count--;
        memmove(listener->ready, listener->ready + 1, listener->ready_count * sizeof(*listener->ready));
        pthread_cond_broadcast(&listener->changed);
    }
    pthread_mutex_unlock(&listener->lock);
    if (!rc)
        *ret_connection = connection;
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------- */

static void link_listener(struct tls_listener *listener)
{
    struct tls_instance *instance = listener->instance;

    pthread_mutex_lock(&instance->lock);
    listener->following = instance->listeners;
    if (listener->following)
        listener->following->previous = listener;
    instance->listeners = listener;
    pthread_mutex_unlock(&instance->lock);
}

static void unlink_listener(struct tls_listener *listener)
{
    struct tls_instance *instance = listener->instance;

    pthread_mutex_lock(&instance->lock);
    if (listener->previous)
        listener->previous->following = listener->following;
    else
        instance->listeners = listener->following;
    if (listener->following)
        listener->following->previous = listener->previous;
    pthread_mutex_unlock(&instance->lock);
}

int tls_listen(void *opaque, const char *address, void **ret_listener, struct drafter_error *err)
{
    struct tls_instance *instance = opaque;
    struct tls_listener *listener = calloc(1, sizeof(*listener));
    int rc;

    if (!listener)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    listener->instance = instance;
    rc = instance->next->listen(instance->next_instance, address, &listener->below, err);
    if (rc) {
        free(listener);
        return rc;
    }
    pthread_mutex_init(&listener->lock, NULL);
    pthread_cond_init(&listener->changed, NULL);
    if (pthread_create(&listener->acceptor, NULL, acceptor_main, listener)) {
        instance->next->listener_close(listener->below);
        free(listener);
        return drafter_error_set(err, EAGAIN, "%s: cannot start a thread", address);
    }
    link_listener(listener);
    *ret_listener = listener;
    return 0;
}

int tls_listener_address(void *opaque, char *buffer, size_t size)
{
    struct tls_listener *listener = opaque;

    return listener->instance->next->listener_address(listener->below, buffer, size);
}

void tls_listener_shutdown(void *opaque)
{
    struct tls_listener *listener = opaque;

    pthread_mutex_lock(&listener->lock);
    listener->stopping = true;
    pthread_cond_broadcast(&listener->changed);
    pthread_mutex_unlock(&listener->lock);
    listener->instance->next->listener_shutdown(listener->below);
}

void tls_listener_close(void *opaque)
{
    struct tls_listener *listener = opaque;
    struct tls_instance *instance;

    if (!listener)
        return;
    instance = listener->instance;
    tls_listener_shutdown(listener);
    pthread_join(listener->acceptor, NULL);
    pthread_mutex_lock(&listener->lock);
    for (struct newcomer *newcomer = listener->oldest; newcomer; newcomer = newcomer->following)
        if (newcomer->connection)
            instance->next->shutdown(newcomer->connection->below);
    while (listener->count)
        pthread_cond_wait(&listener->changed, &listener->lock);
    pthread_mutex_unlock(&listener->lock);
    for (unsigned i = 0; i < listener->ready_count; i++)
        tls_close(listener->ready[i]);
    unlink_listener(listener);
    instance->next->listener_close(listener->below);
    pthread_mutex_destroy(&listener->lock);
    pthread_cond_destroy(&listener->changed);
    free(listener);
}
