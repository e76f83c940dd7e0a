/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listeners.  A thread accepts streams from below, and workers run their handshakes, each one at a time, so
 * that peers that are slow, silent or hostile keep nobody waiting.  There are at most `handshakes-max` workers;
 * who comes then takes the place of the peer that has been at it the longest, which a real one, done after two
 * round trips, is not.  Those that are done wait to be accepted.
 *
 * The acceptor waits for nothing but the transport below: a flood must not pile up there, with a real peer
 * behind it.  What it accepts faster than places are cleared waits in a short queue, and what comes faster
 * still pushes out the first of that.
 */
#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define THREAD_STACK (256 * 1024)
#define READY_MAX 128
#define PENDING_MAX 128
/* That are logged: */
#define REFUSALS_PER_SECOND 10
#define CROWDS_PER_SECOND 1

/* A worker's peer, whose handshake is under way, or that waits to be accepted. */
struct newcomer {
    struct tls_listener *listener;
    /* All below: under listener->lock. */
    struct tls_connection *connection; /* NULL when it is not in the list */
    struct newcomer *previous, *following;
    bool given_up; /* its place is needed */
};

/* How often something was logged, for an attacker must not fill the disk. */
struct quota {
    uint64_t second;
    unsigned used; /* in it */
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
    pthread_t left; /* the worker that ended last, when one `has_left`: the next one joins it */
    bool has_left;
    unsigned workers, leaving; /* threads; newcomers that were given up and are still in the list */
    void *pending[PENDING_MAX]; /* streams that no worker has yet: a ring */
    unsigned pending_first, pending_count;
    struct tls_connection *ready[READY_MAX];
    unsigned ready_count;
    bool stopping;
    struct drafter_error failure; /* why accepting ended, but for stopping */
    struct quota refusals, crowds;
};

/* ---- handshakes ------------------------------------------------------------------------------- */

static bool may_log(struct tls_listener *listener, struct quota *quota, unsigned most)
{
    uint64_t second = drafter_now_ns() / 1000000000;
    bool may;

    pthread_mutex_lock(&listener->lock);
    if (quota->second != second)
        *quota = (struct quota){.second = second};
    may = quota->used < most;
    quota->used += may;
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
    } else if (rc != -ECANCELED && may_log(listener, &listener->refusals, REFUSALS_PER_SECOND)) {
        instance->next->peer_name(connection->below, name, sizeof(name));
        drafter_log(DRAFTER_LOG_WARNING, "tls", "%s refused: %s", name,
                    handshake ? handshake->reason : "out of memory");
    }
    if (handshake) {
        sodium_memzero(&handshake->transcript, sizeof(handshake->transcript));
        tls_handshake_release(handshake);
    }
    free(handshake);
    return rc == 0;
}

/* Who comes now is the newest: false when the listener is stopping. */
static bool newcomer_enter(struct newcomer *newcomer, struct tls_connection *connection)
{
    struct tls_listener *listener = newcomer->listener;
    bool welcome;

    pthread_mutex_lock(&listener->lock);
    newcomer->connection = connection;
    newcomer->given_up = false;
    newcomer->following = NULL;
    newcomer->previous = listener->newest;
    if (listener->newest)
        listener->newest->following = newcomer;
    else
        listener->oldest = newcomer;
    listener->newest = newcomer;
    welcome = !listener->stopping;
    pthread_mutex_unlock(&listener->lock);
    return welcome;
}

/* Called locked. */
static void newcomer_unlink(struct newcomer *newcomer)
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
    listener->leaving -= newcomer->given_up;
    newcomer->connection = NULL; /* nobody shuts it down any more */
}

/* To the accepted ones, when it is `known` and still wanted: whether it was. */
static bool newcomer_leave(struct newcomer *newcomer, bool known)
{
    struct tls_listener *listener = newcomer->listener;
    bool wanted;

    pthread_mutex_lock(&listener->lock);
    while (known && !listener->stopping && !newcomer->given_up && listener->ready_count == READY_MAX)
        pthread_cond_wait(&listener->changed, &listener->lock);
    wanted = known && !listener->stopping && !newcomer->given_up;
    if (wanted) {
        listener->ready[listener->ready_count++] = newcomer->connection;
        pthread_cond_broadcast(&listener->changed);
    }
    newcomer_unlink(newcomer);
    pthread_mutex_unlock(&listener->lock);
    return wanted;
}

/* The stream that waits the longest, or NULL.  Called locked. */
static void *take_pending(struct tls_listener *listener)
{
    void *below;

    if (!listener->pending_count)
        return NULL;
    below = listener->pending[listener->pending_first];
    listener->pending_first = (listener->pending_first + 1) % PENDING_MAX;
    listener->pending_count--;
    return below;
}

static void serve(struct newcomer *newcomer, void *below)
{
    struct tls_listener *listener = newcomer->listener;
    struct tls_connection *connection = tls_connection_new(listener->instance, below);
    bool known;

    if (!connection)
        return;
    known = newcomer_enter(newcomer, connection) && shake_hands(listener, connection);
    if (newcomer_leave(newcomer, known))
        return;
    connection->closed = true; /* what there was to say was said */
    tls_close(connection);
}

static void *worker_main(void *opaque)
{
    struct tls_listener *listener = opaque;
    struct newcomer newcomer = {.listener = listener};
    pthread_t before;
    bool join;
    void *below;

    pthread_mutex_lock(&listener->lock);
    while (!listener->stopping && (below = take_pending(listener))) {
        pthread_mutex_unlock(&listener->lock);
        serve(&newcomer, below);
        pthread_mutex_lock(&listener->lock);
    }
    before = listener->left;
    join = listener->has_left;
    listener->left = pthread_self();
    listener->has_left = true;
    listener->workers--;
    pthread_cond_broadcast(&listener->changed);
    pthread_mutex_unlock(&listener->lock);
    /* The listener waits for us, or for who joins us: until then the code of this plugin stays. */
    if (join)
        pthread_join(before, NULL);
    return NULL;
}

/* ---- accepting -------------------------------------------------------------------------------- */

/* Whether somebody was given up.  Called locked. */
static bool give_up_oldest(struct tls_listener *listener)
{
    struct newcomer *oldest = listener->oldest;

    while (oldest && oldest->given_up)
        oldest = oldest->following;
    if (!oldest)
        return false;
    oldest->given_up = true;
    listener->leaving++;
    listener->instance->next->shutdown(oldest->connection->below);
    pthread_cond_broadcast(&listener->changed);
    return true;
}

static bool start_worker(struct tls_listener *listener)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool started;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    started = !pthread_create(&thread, &attributes, worker_main, listener);
    pthread_attr_destroy(&attributes);
    return started;
}

static void drop(struct tls_listener *listener, void *below)
{
    if (below)
        listener->instance->next->close(below);
}

/* Puts a stream into the queue, and sees to it that a worker takes it. */
static void welcome(struct tls_listener *listener, void *below)
{
    const uint64_t most = listener->instance->config->handshakes_max;
    bool more, crowded = false;
    void *dropped = NULL;

    pthread_mutex_lock(&listener->lock);
    if (listener->pending_count == PENDING_MAX)
        dropped = take_pending(listener);
    listener->pending[(listener->pending_first + listener->pending_count++) % PENDING_MAX] = below;
    more = listener->workers < most;
    if (more)
        listener->workers++;
    else if (listener->leaving < listener->pending_count)
        crowded = give_up_oldest(listener);
    pthread_mutex_unlock(&listener->lock);
    drop(listener, dropped);
    if (crowded && may_log(listener, &listener->crowds, CROWDS_PER_SECOND))
        drafter_log(DRAFTER_LOG_WARNING, "tls",
                    "%llu peers are proving themselves (handshakes-max): the first make room for others",
                    (unsigned long long)most);
    if (!more || start_worker(listener))
        return;
    pthread_mutex_lock(&listener->lock);
    dropped = --listener->workers ? NULL : take_pending(listener);
    pthread_mutex_unlock(&listener->lock);
    drop(listener, dropped);
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
        instance->next->shutdown(newcomer->connection->below);
    while (listener->workers)
        pthread_cond_wait(&listener->changed, &listener->lock);
    pthread_mutex_unlock(&listener->lock);
    if (listener->has_left) /* and so all those before it */
        pthread_join(listener->left, NULL);
    while (listener->pending_count)
        drop(listener, take_pending(listener));
    for (unsigned i = 0; i < listener->ready_count; i++)
        tls_close(listener->ready[i]);
    unlink_listener(listener);
    instance->next->listener_close(listener->below);
    pthread_mutex_destroy(&listener->lock);
    pthread_cond_destroy(&listener->changed);
    free(listener);
}
