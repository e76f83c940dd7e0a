/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/session.h"

#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

#define LINGER_NS UINT64_C(1000000000)

int session_init(struct session *session)
{
    pthread_condattr_t attributes;

    memset(session, 0, sizeof(*session));
    pthread_mutex_init(&session->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&session->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return 0;
}

static void free_streams(struct session *session)
{
    for (unsigned i = 0; i < session->bulk_count; i++)
        if (session->bulk[i])
            session->bytes_before += __atomic_load_n(&session->bulk[i]->bytes_sent, __ATOMIC_RELAXED);
    stream_free(session->control);
    stream_free(session->demand);
    for (unsigned i = 0; i < session->bulk_count; i++) {
        stream_free(session->bulk[i]);
        session->bulk[i] = NULL;
    }
    session->control = session->demand = NULL;
    session->bulk_count = 0;
}

/* Under the lock. */
static void drop_link_events(struct session *session)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < session->event_count; i++) {
        const struct session_event *event =
            &session->events[(session->event_head + i) % SESSION_EVENTS_MAX];

        if (event->event != EVENT_LINK_LOST && event->event != EVENT_LINK_GONE &&
            event->event != EVENT_PASS_SENT && event->event != EVENT_ACK)
            session->events[(session->event_head + kept++) % SESSION_EVENTS_MAX] = *event;
    }
    session->event_count = kept;
}

void session_reset_link(struct session *session)
{
    lock_scope(&session->lock);
    free_streams(session);
    drop_link_events(session);
    session->stopping = session->data_failed = session->link_failed = false;
    session->control_ended = false;
    session->failed_beats = 0;
}

void session_release(struct session *session)
{
    free_streams(session);
    pthread_cond_destroy(&session->changed);
    pthread_mutex_destroy(&session->lock);
}

/* What is heard may fill half of the queue: the machine ignores repeated events, and needs its own. */
static void post(struct session *session, const struct session_event *event, bool heard)
{
    unsigned slot;

    if (session->event_count >= (heard ? SESSION_EVENTS_MAX / 2 : SESSION_EVENTS_MAX))
        return;
    slot = (session->event_head + session->event_count++) % SESSION_EVENTS_MAX;
    session->events[slot] = *event;
    pthread_cond_broadcast(&session->changed);
}

void session_post(struct session *session, enum machine_event event, uint64_t argument)
{
    const struct session_event record = {.event = event, .argument = argument};

    lock_scope(&session->lock);
    post(session, &record, false);
}

void session_post_locked(struct session *session, enum machine_event event,
                         const struct drafter_error *error)
{
    const struct session_event record = {.event = event, .error = *error};

    post(session, &record, false);
}

void session_post_error(struct session *session, enum machine_event event,
                        const struct drafter_error *error)
{
    lock_scope(&session->lock);
    session_post_locked(session, event, error);
}

void session_hear(struct session *session, enum machine_event event, uint64_t argument)
{
    const struct session_event record = {.event = event, .argument = argument};

    lock_scope(&session->lock);
    post(session, &record, true);
}

void session_hear_error(struct session *session, enum machine_event event,
                        const struct drafter_error *error)
{
    const struct session_event record = {.event = event, .error = *error};

    lock_scope(&session->lock);
    post(session, &record, true);
}

static void shutdown_streams(struct session *session)
{
    stream_shutdown(session->control);
    stream_shutdown(session->demand);
    for (unsigned i = 0; i < session->bulk_count; i++)
        stream_shutdown(session->bulk[i]);
}

/* Under the lock. */
static void post_link_lost(struct session *session, const struct drafter_error *error)
{
    const struct session_event record = {.event = EVENT_LINK_LOST, .error = *error};

    if (session->stopping || session->link_failed)
        return;
    session->link_failed = true;
    post(session, &record, false);
    shutdown_streams(session);
}

/* Under the lock. */
static void control_lost(struct session *session, const struct drafter_error *error)
{
    session->control_ended = true;
    pthread_cond_broadcast(&session->changed);
    post_link_lost(session, session->data_failed ? &session->data_error : error);
}

void session_link_lost(struct session *session, const struct stream *stream, int rc)
{
    struct drafter_error error = {0};

    drafter_error_set(&error, -rc, "%s: %s", stream->peer, stream_error_text(rc));
    lock_scope(&session->lock);
    if (stream == session->control) {
        control_lost(session, &error);
        return;
    }
    if (session->data_failed)
        return;
    session->data_failed = true;
    session->data_error = error;
    stream_shutdown(session->demand);
    for (unsigned i = 0; i < session->bulk_count; i++)
        stream_shutdown(session->bulk[i]);
    pthread_cond_broadcast(&session->changed);
}

void session_control_lost(struct session *session, int rc)
{
    struct drafter_error error = {0};

    if (!session->control || session->link_failed)
        return;
    drafter_error_set(&error, -rc, "%s: %s", session->control->peer, stream_error_text(rc));
    control_lost(session, &error);
}

static struct timespec deadline_after(uint64_t delay_ns)
{
    uint64_t at = drafter_now_ns() + delay_ns;

    return (struct timespec){.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
}

bool session_wait(struct session *session, unsigned timeout_ms, struct session_event *ret_event)
{
    struct timespec deadline = deadline_after((uint64_t)timeout_ms * 1000000);

    lock_scope(&session->lock);
    while (!session->event_count)
        if (pthread_cond_timedwait(&session->changed, &session->lock, &deadline) == ETIMEDOUT)
            return false;
    *ret_event = session->events[session->event_head];
    session->event_head = (session->event_head + 1) % SESSION_EVENTS_MAX;
    session->event_count--;
    return true;
}

bool session_take_error(struct session *session, struct session_event *ret_event)
{
    bool found = false;

    lock_scope(&session->lock);
    for (unsigned i = 0, n = session->event_count; i < n; i++) { /* once round, the others to the back */
        struct session_event event = session->events[session->event_head];

        session->event_head = (session->event_head + 1) % SESSION_EVENTS_MAX;
        session->event_count--;
        if (!found && event.error.code) {
            found = true;
            *ret_event = event;
        } else {
            session->events[(session->event_head + session->event_count++) % SESSION_EVENTS_MAX] = event;
        }
    }
    return found;
}

/* One beat later: false when the session ends. */
static bool sleep_one_beat(struct session *session)
{
    struct timespec deadline = deadline_after(SESSION_HEARTBEAT_NS);

    lock_scope(&session->lock);
    while (!session->stopping)
        if (pthread_cond_timedwait(&session->changed, &session->lock, &deadline) == ETIMEDOUT)
            return !session->stopping;
    return false;
}

/* A stream failed two beats ago and the control stream lives on: the session cannot. */
static void give_up_on_data(struct session *session)
{
    lock_scope(&session->lock);
    if (session->data_failed && ++session->failed_beats >= 2)
        post_link_lost(session, &session->data_error);
}

/* The streams by number: 0 is the control stream, 1 the demand stream.  NULL behind the last one. */
static struct stream *nth_stream(const struct session *session, unsigned n)
{
    if (n < 2)
        return n ? session->demand : session->control;
    return n - 2 < session->bulk_count ? session->bulk[n - 2] : NULL;
}

/* A peer that lives is heard on each stream that is read: no last words will come of one that is not. */
static bool give_up_on_silence(struct session *session)
{
    struct drafter_error error = {0};
    struct stream *stream;

    for (unsigned n = 0; (stream = nth_stream(session, n)); n++) {
        if (!transport_waits_longer(stream->connection, SESSION_MISSED_BEATS * SESSION_HEARTBEAT_NS))
            continue;
        drafter_error_set(&error, ETIMEDOUT, "%s: %s (stream %u)", stream->peer,
                          stream_error_text(-ETIMEDOUT), n);
        lock_scope(&session->lock);
        post_link_lost(session, &error);
        return true;
    }
    return false;
}

/* The first stream that failed, or NULL. */
static struct stream *ping(struct session *session, int *ret_rc)
{
    struct stream *stream = session->control;

    *ret_rc = stream_send_signal(stream, WIRE_PING, drafter_now_ns());
    for (unsigned n = 1; !*ret_rc && (stream = nth_stream(session, n)); n++)
        *ret_rc = stream_ping_idle(stream);
    return *ret_rc ? stream : NULL;
}

static void *heartbeat_main(void *opaque)
{
    struct session *session = opaque;
    struct stream *failed;
    int rc;

    while (sleep_one_beat(session)) {
        give_up_on_data(session);
        if (give_up_on_silence(session))
            break;
        failed = ping(session, &rc);
        if (failed)
            session_link_lost(session, failed, rc);
        if (failed == session->control)
            break;
    }
    return NULL;
}

int session_start_heartbeat(struct session *session, struct drafter_error *err)
{
    session->heartbeat_running = !pthread_create(&session->heartbeat, NULL, heartbeat_main, session);
    return session->heartbeat_running ? 0 : drafter_error_set(err, EAGAIN, "cannot start a thread");
}

void session_stop(struct session *session)
{
    pthread_mutex_lock(&session->lock);
    session->stopping = true;
    shutdown_streams(session);
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
    if (session->heartbeat_running)
        pthread_join(session->heartbeat, NULL);
    session->heartbeat_running = false;
}

bool session_is_stopping(struct session *session)
{
    lock_scope(&session->lock);
    return session->stopping;
}

bool session_link_is_lost(struct session *session)
{
    lock_scope(&session->lock);
    return session->link_failed;
}

bool session_error_is_link(int code)
{
    switch (code) {
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case EPIPE:
    case ETIMEDOUT:
    case EBADMSG:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECANCELED:
        return true;
    default:
        return false;
    }
}

void session_linger(struct session *session)
{
    struct timespec deadline = deadline_after(LINGER_NS);

    lock_scope(&session->lock);
    while (!session->control_ended)
        if (pthread_cond_timedwait(&session->changed, &session->lock, &deadline) == ETIMEDOUT)
            return;
}

uint64_t session_seed(const uint8_t token[WIRE_TOKEN_SIZE])
{
    uint64_t seed = 0;

    for (unsigned i = 0; i < 8; i++)
        seed |= (uint64_t)token[i] << (8 * i);
    return seed;
}

int session_send_text(struct stream *stream, unsigned type, uint64_t argument, char *text)
{
    struct wire_header header = {.type = (uint16_t)type, .argument = argument};
    int rc;

    if (!text)
        return -ENOMEM;
    header.length = (uint32_t)strlen(text);
    rc = stream_send(stream, header, text);
    free(text);
    return rc;
}

void session_send_refusal(struct stream *stream, unsigned type, uint64_t argument, const char *step,
                          const struct drafter_error *error)
{
    struct refusal refusal = {.code = error->code ? error->code : EIO};

    snprintf(refusal.step, sizeof(refusal.step), "%s", step);
    snprintf(refusal.text, sizeof(refusal.text), "%s", error->message);
    session_send_text(stream, type, argument, refusal_encode(&refusal));
}
