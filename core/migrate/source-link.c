/* SPDX-License-Identifier: BSD-2-Clause */
/* The source's end of the link: greeting, streams, threads, and what happens when it is lost. */
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

#define ATTACH_TIMEOUT_MS 10000
#define CONTROL_TIMEOUT_MS 3000
#define REMIND_NS UINT64_C(10000000000)

/* Under session.lock: is a bulk stream of this number still to come?  Before ACCEPT any may be. */
static bool expects_bulk(const struct source *source, unsigned bulk)
{
    unsigned limit = source->streams_wanted ? source->streams_wanted : WIRE_STREAMS_MAX - 2;

    return bulk < limit && !source->session.bulk[bulk];
}

void source_attach(struct source *source, unsigned index, struct stream *stream)
{
    struct session *session = &source->session;
    bool taken = false;

    stream->seed = session_seed(session->token);
    pthread_mutex_lock(&session->lock);
    if (session->stopping || session->link_failed ||
        stream_check_peer(stream, session->identity, NULL)) {
        /* too late, or an intruder */
    } else if (index == 1 && !session->demand) {
        session->demand = stream;
        taken = true;
    } else if (index >= 2 && expects_bulk(source, index - 2)) {
        session->bulk[index - 2] = stream; /* connections are accepted in any order */
        source->attached++;
        if (index - 1 > session->bulk_count)
            session->bulk_count = index - 1;
        taken = true;
    }
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
    if (!taken) {
        log_warning("source", "%s: a stream %u that nobody waits for was refused", stream->peer,
                    index);
        stream_free(stream);
    }
}

/* Under session.lock: all streams that the peer announced are here. */
static bool streams_complete(const struct source *source)
{
    return source->streams_wanted && source->session.demand &&
           source->attached == source->streams_wanted &&
           source->session.bulk_count == source->attached;
}

int source_start_threads(struct source *source, struct drafter_error *err)
{
    if (source_start_senders(source, err))
        return -EAGAIN;
    if (pthread_create(&source->demand_reader, NULL, source_demand_main, source))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    source->demand_running = true;
    return 0;
}

/* Why the streams did not come: the peer's word for it, or what is known of the link. */
static int explain(struct source *source, struct drafter_error *err)
{
    struct session_event event;

    if (session_take_error(&source->session, &event)) {
        source->broken = event.event == EVENT_LINK_LOST && source->options.vm;
        *err = event.error;
        return -err->code;
    }
    return drafter_error_set(err, ETIMEDOUT, "%s: it did not accept within %d s",
                             source->session.control->peer, ATTACH_TIMEOUT_MS / 1000);
}

/* Until the peer has accepted and its streams are here.  Leaves events to the deciding thread. */
static int await_streams(struct source *source, struct drafter_error *err)
{
    struct session *session = &source->session;
    struct timespec deadline;
    bool complete = false, hopeless = false;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += ATTACH_TIMEOUT_MS / 1000;
    pthread_mutex_lock(&session->lock);
    while (!(complete = streams_complete(source)) && !hopeless)
        hopeless = session->control_ended || __atomic_load_n(&source->cancelled, __ATOMIC_RELAXED) ||
                   pthread_cond_timedwait(&session->changed, &session->lock, &deadline) == ETIMEDOUT;
    pthread_mutex_unlock(&session->lock);
    if (!complete)
        return explain(source, err);
    transport_set_timeout(session->control->connection, CONTROL_TIMEOUT_MS);
    return session_start_heartbeat(session, err);
}

/* Offers; waits until the peer accepted and its streams are here. */
int source_greet(struct source *source, struct drafter_error *err)
{
    struct session *session = &source->session;
    int rc = failpoint(FAILPOINT_PREFLIGHT);

    if (!rc)
        rc = session_send_text(session->control, WIRE_OFFER, 0,
                               offer_encode(&source->options.offer));
    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", session->control->peer, stream_error_text(rc));
    session->control->seed = session_seed(session->token);
    transport_set_timeout(session->control->connection, ATTACH_TIMEOUT_MS);
    if (pthread_create(&source->control_reader, NULL, source_control_main, source))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    source->control_running = true;
    return await_streams(source, err);
}

void source_end_link(struct source *source)
{
    session_stop(&source->session);
    source_join_senders(source);
    if (source->control_running)
        pthread_join(source->control_reader, NULL);
    if (source->demand_running)
        pthread_join(source->demand_reader, NULL);
    if (source->finisher_running)
        pthread_join(source->finisher, NULL);
    source->control_running = source->demand_running = source->finisher_running = false;
}

bool source_relink(struct source *source, struct stream *control)
{
    struct session *session = &source->session;
    struct stream *old;

    pthread_mutex_lock(&session->lock);
    if (source->over || !source->options.vm ||
        stream_check_peer(control, session->identity, NULL)) {
        pthread_mutex_unlock(&session->lock);
        return false;
    }
    old = source->next_control;
    source->next_control = control;
    /* The peer noticed first that the old link is dead.  Unlocked, the old stream may be gone already. */
    session_control_lost(session, -ECONNRESET);
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
    stream_free(old);
    return true;
}

static bool is_cancelled(const struct source *source)
{
    return __atomic_load_n(&source->cancelled, __ATOMIC_RELAXED);
}

/* When nobody waits any longer, or the next time to say that somebody does. */
static struct timespec next_deadline(uint64_t end)
{
    uint64_t next = drafter_now_ns() + REMIND_NS;

    if (end && end < next)
        next = end;
    return (struct timespec){(time_t)(next / 1000000000), (long)(next % 1000000000)};
}

/* The peer's next control stream, or NULL when `end` (0: never) is over or the operator wants an end. */
static struct stream *await_control(struct source *source, uint64_t end)
{
    struct session *session = &source->session;
    struct stream *control;
    struct timespec deadline;

    lock_scope(&session->lock);
    while (!source->next_control && !is_cancelled(source)) {
        deadline = next_deadline(end);
        if (pthread_cond_timedwait(&session->changed, &session->lock, &deadline) != ETIMEDOUT)
            continue;
        if (end && drafter_now_ns() >= end)
            break;
        log_warning("source", "VM %s: still waiting for the peer to come back",
                    source->options.offer.vm);
    }
    if (end && is_cancelled(source)) /* also where somebody comes back again and again */
        return NULL;
    control = source->next_control;
    source->next_control = NULL;
    return control;
}

/* RESUME, what was announced, MARK; then the peer says what it misses, and accepts. */
static int resume_link(struct source *source, struct drafter_error *err)
{
    struct session *session = &source->session;
    const struct resumption resumption = {.committed = source_handed_over(source),
                                          .epoch = source->options.offer.epoch + 1};
    int rc = session_send_text(session->control, WIRE_RESUME, 0, resumption_encode(&resumption));

    session->control->seed = session_seed(session->token);
    if (!rc)
        rc = source_announce_again(source);
    if (!rc)
        rc = stream_send_signal(session->control, WIRE_MARK, 0);
    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", session->control->peer, stream_error_text(rc));
    transport_set_timeout(session->control->connection, ATTACH_TIMEOUT_MS);
    if (pthread_create(&source->control_reader, NULL, source_control_main, source))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    source->control_running = true;
    rc = await_streams(source, err);
    return rc ? rc : source_start_threads(source, err);
}

/*
 * Whoever comes back may be another process than the one that got the versions that differences are
 * made to: it trusts only pages that were stored whole.  Its threads have ended, so nobody reads these.
 */
static void forget_deltas(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];

        if (device->delta)
            memset(device->delta, 0, bitmap_words(device->block->map.pages) * sizeof(*device->delta));
    }
}

static void reset_link(struct source *source, struct stream *control)
{
    struct session *session = &source->session;

    session_reset_link(session);
    forget_deltas(source);
    pthread_mutex_lock(&session->lock);
    session->control = control;
    source->streams_wanted = source->attached = 0;
    source->sending = false;
    source->inflight = 0;
    source->relinking = true;
    source_forget_unread(source);
    schedule_clear(&source->schedule);
    pthread_mutex_unlock(&session->lock);
}

static void set_parted(struct source *source, bool parted)
{
    lock_scope(&source->session.lock);
    source->parted = parted;
}

/* After the hand-over what the peer still misses is sent at once; before it, it belongs to the next pass. */
static void go_on(struct source *source)
{
    struct session *session = &source->session;
    uint64_t left;

    pthread_mutex_lock(&session->lock);
    source->relinking = false;
    source->error = (struct drafter_error){0}; /* it was made good */
    schedule_sort(&source->schedule, SCHEDULE_SMALLEST_FIRST);
    left = schedule_left(&source->schedule);
    pthread_mutex_unlock(&session->lock);
    log_event("relinked", "\"vm\":\"%s\",\"peer\":\"%s\",\"missing\":%llu",
              source->options.offer.vm, session->control->peer,
              (unsigned long long)left << DRAFTER_PAGE_SHIFT);
    session_post(session, EVENT_LINK_BACK, 0);
    if (source_handed_over(source))
        source_allow_sending(source);
}

static void say_lost(const struct source *source)
{
    const struct source_machine *machine = &source->machine;

    if (source_handed_over(source))
        log_warning("source",
                    "VM %s: the link was lost after the hand-over: %s; waiting for the peer, to "
                    "which the VM belongs",
                    source->options.offer.vm, source->break_error.message);
    else
        log_warning("source",
                    "VM %s: the link was lost while %s: %s; the guest runs on here, and the peer has "
                    "%.1f s to come back (break %u of %u)",
                    source->options.offer.vm, source_state_name(machine->state_before),
                    source->break_error.message, (double)source->options.relink_timeout_ms / 1e3,
                    machine->breaks, SOURCE_BREAKS_MAX);
}

/* Whoever says HELLO again, until one of them has accepted. */
static bool take_peer(struct source *source, uint64_t end)
{
    struct stream *control;

    while ((control = await_control(source, end))) {
        struct drafter_error error = {0};

        reset_link(source, control);
        if (!resume_link(source, &error))
            return true;
        log_warning("source", "VM %s: the peer did not come back after all: %s",
                    source->options.offer.vm, error.message);
        source_end_link(source);
        if (end && drafter_now_ns() >= end)
            return false;
    }
    return false;
}

/* Waits for the peer; false: not in time, or the operator does not want to any longer. */
bool source_await_relink(struct source *source)
{
    bool parted = !source_handed_over(source), back;
    uint64_t end = drafter_now_ns() + (uint64_t)source->options.relink_timeout_ms * 1000000;

    say_lost(source);
    source_end_link(source);
    if (parted)
        source_forget_final(source);
    set_parted(source, parted);
    back = take_peer(source, parted ? end : 0);
    set_parted(source, false);
    if (back)
        go_on(source);
    else if (parted)
        log_warning("source", "VM %s: the peer did not come back: the VM stays here",
                    source->options.offer.vm);
    return back;
}
