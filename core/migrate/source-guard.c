/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long a VM may be paused before it is handed over: a local timer, whatever the peer or the link does.  When it
 * expires the link is given up, which wakes whoever waits for it; before COMMIT the source then takes the VM back.
 * A save or a hook of the VMM that hangs has limits of its own.
 */
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <time.h>

static void *guard_main(void *opaque)
{
    struct source *source = opaque;
    struct session *session = &source->session;
    uint64_t end = source->paused_at + SOURCE_PAUSE_MAX_NS;
    const struct timespec deadline = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
    bool over;

    pthread_mutex_lock(&session->lock);
    while (!(over = source->guard_over))
        if (pthread_cond_timedwait(&session->changed, &session->lock, &deadline) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&session->lock);
    if (over)
        return NULL;
    log_warning("source", "VM %s was paused for %d ms without being handed over: the link is given up",
                source->options.offer.vm, (int)(SOURCE_PAUSE_MAX_NS / 1000000));
    session_link_lost(session, session->control, -ETIMEDOUT);
    return NULL;
}

int source_guard_start(struct source *source, struct drafter_error *err)
{
    source->guard_over = false;
    source->guard_running = !pthread_create(&source->guard, NULL, guard_main, source);
    return source->guard_running ? 0 : drafter_error_set(err, EAGAIN, "cannot start a thread");
}

void source_guard_end(struct source *source)
{
    if (!source->guard_running)
        return;
    pthread_mutex_lock(&source->session.lock);
    source->guard_over = true;
    pthread_cond_broadcast(&source->session.changed);
    pthread_mutex_unlock(&source->session.lock);
    pthread_join(source->guard, NULL);
    source->guard_running = false;
}
