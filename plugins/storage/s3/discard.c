/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Deletes objects that nothing needs any more.  A flush waits for it, so a few are deleted at a time, by
 * its own thread and by those of the pool that are free; and a server that does not answer is not waited
 * for once an object.  What stays is swept by the next writer.
 */
#include "pool.h"
#include "volume.h"

#include "util/cleanup.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HELPERS 15 /* http.h bounds what really runs at a time */

struct helper {
    struct pool_job job;
    struct batch *batch;
};

struct batch {
    struct volume *volume; /* and `objects`: gone when it is closed */
    const struct volume_object *objects;
    size_t count;
    _Atomic size_t next, deleted;
    atomic_bool gone;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned users, active; /* under `lock`: who has the batch, who works at it */
    bool closed;            /* under `lock`: who comes now comes too late */
    struct helper helpers[HELPERS];
};

static int delete_object(struct volume *volume, const struct volume_object *object)
{
    struct http_response response;
    char path[1600];
    struct http_request request = {.method = "DELETE", .path = path, .limit = 65536};
    int rc = volume_path(volume, object->kind, object->place, &object->entry, path, sizeof path);

    if (rc)
        return rc;
    rc = http_send(volume->http, &request, &response);
    http_response_release(&response);
    return rc == -ENOENT ? 0 : rc;
}

/* Is the server away, as far as a request with all its retries can tell? */
static bool is_gone(int rc)
{
    return rc == -ETIMEDOUT || rc == -ECANCELED || rc == -EIO;
}

static void delete_some(struct batch *batch)
{
    size_t i;

    while (!atomic_load(&batch->gone) && (i = atomic_fetch_add(&batch->next, 1)) < batch->count) {
        int rc = delete_object(batch->volume, &batch->objects[i]);

        if (is_gone(rc))
            atomic_store(&batch->gone, true);
        atomic_fetch_add(&batch->deleted, rc == 0);
    }
}

static void leave(struct batch *batch)
{
    bool last;

    pthread_mutex_lock(&batch->lock);
    last = --batch->users == 0;
    pthread_mutex_unlock(&batch->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&batch->lock);
    pthread_cond_destroy(&batch->idle);
    free(batch);
}

static bool enter(struct batch *batch)
{
    lock_scope(&batch->lock);
    batch->active += !batch->closed;
    return !batch->closed;
}

static void help(struct pool_job *job)
{
    struct batch *batch = ((struct helper *)job)->batch;

    if (enter(batch)) {
        delete_some(batch);
        pthread_mutex_lock(&batch->lock);
        if (--batch->active == 0)
            pthread_cond_signal(&batch->idle);
        pthread_mutex_unlock(&batch->lock);
    }
    leave(batch);
}

static void call_helpers(struct batch *batch)
{
    size_t wanted = batch->count - 1 < HELPERS ? batch->count - 1 : HELPERS;

    if (!batch->volume->pool)
        return;
    batch->users += (unsigned)wanted; /* nobody else has it yet */
    for (size_t i = 0; i < wanted; i++) {
        batch->helpers[i] = (struct helper){.job = {.run = help}, .batch = batch};
        pool_queue(batch->volume->pool, &batch->helpers[i].job);
    }
}

size_t volume_delete_all(struct volume *volume, const struct volume_object *objects, size_t count)
{
    struct batch *batch = count ? calloc(1, sizeof *batch) : NULL;
    size_t deleted;

    if (!batch)
        return 0;
    batch->volume = volume;
    batch->objects = objects;
    batch->count = count;
    batch->users = 1;
    pthread_mutex_init(&batch->lock, NULL);
    pthread_cond_init(&batch->idle, NULL);
    call_helpers(batch);
    delete_some(batch);
    pthread_mutex_lock(&batch->lock);
    batch->closed = true;
    while (batch->active > 0)
        pthread_cond_wait(&batch->idle, &batch->lock);
    pthread_mutex_unlock(&batch->lock);
    deleted = atomic_load(&batch->deleted);
    leave(batch);
    return deleted;
}
