/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The link is gone, the session is not.  The destination dials again and says HELLO with the session's
 * token.  The source answers RESUME, repeats what it announced last (that may have been lost), and ends
 * that with a MARK; the destination says which pages it misses, and both go on with those.
 */
#include "migrate/destination-internal.h"
#include "migrate/pageset.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>
#include <time.h>

#define GREETING_TIMEOUT_MS 5000
#define PAUSE_MIN_NS UINT64_C(50000000)
#define PAUSE_MAX_NS UINT64_C(2000000000)
#define SHORT_LINK_NS UINT64_C(1000000000)
#define REMIND_NS UINT64_C(10000000000)

static int open_control(struct destination *destination, struct drafter_error *err)
{
    const struct destination_options *options = &destination->options;
    struct hello hello = {.version = WIRE_VERSION, .software = "drafter", .reconnect = true};
    struct transport_connection *connection;
    struct stream *control;
    int rc = destination_dial(destination, 0, &connection, err);

    if (rc)
        return rc;
    if (stream_new(connection, &control))
        return drafter_error_set(err, ENOMEM, "out of memory");
    destination->session.control = control;
    if (destination->recalled) /* whoever the transport lets in at that address, as at a first greeting */
        memcpy(destination->session.identity, control->identity, sizeof(control->identity));
    rc = stream_check_peer(control, destination->session.identity, err);
    if (rc)
        return rc;
    snprintf(hello.role, sizeof(hello.role), "%s", options->role);
    memcpy(hello.token, destination->session.token, sizeof(hello.token));
    memcpy(hello.vm, destination->offer.vm, sizeof(hello.vm));
    hello.epoch = destination->epoch ? destination->epoch : destination->offer.epoch + 1;
    transport_set_timeout(connection, GREETING_TIMEOUT_MS);
    rc = session_send_text(control, WIRE_HELLO, 0, hello_encode(&hello));
    return rc ? drafter_error_set(err, -rc, "%s: %s", control->peer, stream_error_text(rc)) : 0;
}

/* RESUME, or the source's word that it knows nothing of the session: then *ret_over. */
static int receive_resume(struct destination *destination, char *payload, bool *ret_over,
                          struct drafter_error *err)
{
    struct stream *control = destination->session.control;
    struct resumption resumption;
    struct wire_header header;
    struct refusal refusal;
    int rc = stream_receive(control, &header, payload, WIRE_DATA_MAX);

    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", control->peer, stream_error_text(rc));
    if (header.type == WIRE_ABORT) {
        refusal_decode(payload, header.length, &refusal);
        *ret_over = true;
        if (refusal.code == ESTALE && destination->epoch && header.argument > destination->epoch)
            destination->fence = header.argument;
        return drafter_error_set(err, refusal.code, "%s: %s", control->peer, refusal.text);
    }
    if (header.type != WIRE_RESUME)
        return drafter_error_set(err, EPROTO, "%s: %s instead of RESUME", control->peer,
                                 wire_type_name(header.type));
    control->seed = session_seed(destination->session.token);
    return resumption_decode(payload, header.length, &resumption, err);
}

/* What was announced last, up to the MARK. */
static int receive_announcements(struct destination *destination, char *payload,
                                 struct drafter_error *err)
{
    struct stream *control = destination->session.control;
    struct wire_header header = {0};
    int rc = 0;

    while (!rc && header.type != WIRE_MARK) {
        rc = stream_receive(control, &header, payload, WIRE_DATA_MAX);
        if (!rc && header.type == WIRE_PASS)
            rc = destination_on_pass(destination, &header, payload);
        else if (!rc && header.type != WIRE_MARK)
            rc = -EPROTO;
    }
    return rc ? drafter_error_set(err, -rc, "%s: %s", control->peer, stream_error_text(rc)) : 0;
}

static int send_missing(struct destination *destination, unsigned index, char *buffer)
{
    struct block_map *map = &destination->devices[index].block->map;
    struct wire_header header = {.type = WIRE_PASS, .device = (uint16_t)index, .generation = 1};
    cleanup_free uint64_t *missing = bitmap_new(map->pages);
    uint64_t cursor = 0;
    int rc = missing ? 0 : -ENOMEM;

    if (!rc)
        block_map_get_missing(map, missing);
    while (!rc && cursor < map->pages) {
        header.length =
            (uint32_t)pageset_encode(missing, map->pages, &cursor, buffer, WIRE_DATA_MAX);
        if (header.length)
            rc = stream_send(destination->session.control, header, buffer);
    }
    return rc;
}

static int negotiate(struct destination *destination, bool *ret_over, struct drafter_error *err)
{
    cleanup_free char *payload = malloc(WIRE_DATA_MAX);
    int rc = payload ? open_control(destination, err)
                     : drafter_error_set(err, ENOMEM, "out of memory");

    if (!rc)
        rc = receive_resume(destination, payload, ret_over, err);
    if (!rc)
        rc = receive_announcements(destination, payload, err);
    for (unsigned i = 0; !rc && i < destination->device_count; i++)
        if ((rc = send_missing(destination, i, payload)))
            drafter_error_set(err, -rc, "%s: %s", destination->session.control->peer,
                              stream_error_text(rc));
    if (!rc && destination->device_count && destination->machine.state == DESTINATION_ARRIVING)
        rc = destination_tell_hashes(destination, err);
    return rc ? rc : destination_open_streams(destination, err);
}

/* Replaces the streams; whoever uses the demand stream is let out first by its shutdown. */
static void reset_link(struct destination *destination)
{
    destination_end_link(destination);
    pthread_rwlock_wrlock(&destination->link_lock);
    session_reset_link(&destination->session);
    pthread_rwlock_unlock(&destination->link_lock);
    pthread_mutex_lock(&destination->session.lock);
    destination->sent = false;
    destination->marks = 0;
    pthread_mutex_unlock(&destination->session.lock);
}

/* Whoever has everything needs no source: it may have said DONE, which was lost, and be gone. */
static bool has_limit(const struct destination *destination)
{
    return destination->machine.state != DESTINATION_COMPLETING || destination->machine.complete;
}

static void pause_for(uint64_t *pause)
{
    struct timespec time = {(time_t)(*pause / 1000000000), (long)(*pause % 1000000000)};

    nanosleep(&time, NULL);
    *pause = *pause * 2 < PAUSE_MAX_NS ? *pause * 2 : PAUSE_MAX_NS;
}

static uint64_t count_missing(const struct destination *destination)
{
    uint64_t missing = 0;

    for (unsigned i = 0; i < destination->device_count; i++)
        missing += block_map_missing(&destination->devices[i].block->map);
    return missing;
}

/* A link that was lost again at once and brought nothing leaves the outage what it was; true: it did. */
static bool is_same_outage(const struct destination *destination)
{
    const struct destination_outage *outage = &destination->outage;

    return outage->linked_at && drafter_now_ns() - outage->linked_at < SHORT_LINK_NS &&
           outage->state == destination->machine.state && outage->missing == count_missing(destination);
}

static void begin_outage(struct destination *destination)
{
    struct destination_outage *outage = &destination->outage;

    if (is_same_outage(destination))
        pause_for(&outage->pause);
    else
        *outage = (struct destination_outage){.started = drafter_now_ns(), .pause = PAUSE_MIN_NS};
}

static bool is_too_long(const struct destination *destination)
{
    return has_limit(destination) && drafter_now_ns() - destination->outage.started >
                                         (uint64_t)destination->options.relink_timeout_ms * 1000000;
}

static void go_on(struct destination *destination)
{
    uint64_t missing = count_missing(destination);

    for (unsigned i = 0; i < destination->device_count; i++)
        block_map_forget_requests(&destination->devices[i].block->map);
    destination->outage.linked_at = drafter_now_ns();
    destination->outage.missing = missing;
    destination->outage.state = destination->machine.state;
    if (!destination->cancelled) /* it was made good */
        destination->error = (struct drafter_error){0};
    log_event("relinked", "\"vm\":\"%s\",\"peer\":\"%s\",\"missing\":%llu",
              destination->offer.vm, destination->session.control->peer,
              (unsigned long long)missing << DRAFTER_PAGE_SHIFT);
    session_post(&destination->session, EVENT_LINK_BACK, 0);
}

/* The source says that the session is over, or time is up: the machine decides what that means. */
static void give_up(struct destination *destination, bool over, const struct drafter_error *error)
{
    destination->over = over;
    if (destination->machine.state == DESTINATION_COMPLETING && destination->machine.complete && !over)
        log_warning("destination",
                    "VM %s is whole here, but its source could not be told and may wait until it is ended: %s",
                    destination->offer.vm, error->message);
    session_post_error(&destination->session,
                       destination->fence ? EVENT_FENCED : over ? EVENT_ENDED : EVENT_LINK_GONE, error);
}

static void say_lost(const struct destination *destination, const struct drafter_error *error)
{
    const char *state = destination_state_name(destination->machine.state);

    if (has_limit(destination))
        log_warning("destination",
                    "VM %s: the link was lost while %s: %s; looking for the source for %.1f s",
                    destination->offer.vm, state, error->message,
                    (double)destination->options.relink_timeout_ms / 1e3);
    else
        log_warning("destination",
                    "VM %s: the link was lost while %s: %s; looking for the source again, the guest "
                    "waits for missing pages only",
                    destination->offer.vm, state, error->message);
}

/*
 * Dials until the source is back (true), the session is over for it, the time is up, or the operator
 * wants an end.
 */
bool destination_relink(struct destination *destination)
{
    uint64_t reminded = drafter_now_ns();
    struct drafter_error error = destination->error;
    bool over = false;

    say_lost(destination, &error);
    begin_outage(destination);
    while (!__atomic_load_n(&destination->cancelled, __ATOMIC_RELAXED) && !over) {
        uint64_t now;

        if (destination->outage.linked_at && is_too_long(destination))
            break;
        reset_link(destination);
        error = (struct drafter_error){0};
        if (!negotiate(destination, &over, &error)) {
            destination->attempt = 0;
            go_on(destination);
            return true;
        }
        destination->attempt++;
        now = drafter_now_ns();
        if (is_too_long(destination))
            break;
        if (now - reminded > REMIND_NS) {
            log_warning("destination", "VM %s: still no source: %s", destination->offer.vm,
                        error.message);
            reminded = now;
        }
        pause_for(&destination->outage.pause);
    }
    reset_link(destination);
    give_up(destination, over, &error);
    return false;
}
