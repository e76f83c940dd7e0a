/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What both sides of a migration have in common: the streams, the queue of events for the one thread
 * that decides, and the heartbeat.
 *
 * Threads: the deciding thread (the caller of source_run or destination_run) waits for events and does
 * what the state machine asks.  A reader per stream and the heartbeat only post events.
 * Lock order: session.lock, then a device's map lock, then a stream's send lock.
 */
#ifndef MIGRATE_SESSION_H
#define MIGRATE_SESSION_H

#include "migrate/hello.h"
#include "migrate/machine.h"
#include "migrate/stream.h"

#define SESSION_HEARTBEAT_NS (UINT64_C(1000000000))
#define SESSION_MISSED_BEATS 3
#define SESSION_EVENTS_MAX 64

/* An event and, for failures, what went wrong. */
struct session_event {
    enum machine_event event;
    uint64_t argument;
    struct drafter_error error;
};

struct session {
    uint8_t token[WIRE_TOKEN_SIZE];
    struct stream *control, *demand;
    uint64_t bytes_before; /* sent on bulk streams of links that are gone; the deciding thread */
    struct stream *bulk[WIRE_STREAMS_MAX];
    unsigned bulk_count;
    char identity[DRAFTER_IDENTITY_SIZE]; /* the peer's, constant from the first stream on */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under `lock`: */
    struct session_event events[SESSION_EVENTS_MAX];
    unsigned event_head, event_count;
    bool stopping;    /* threads shall end */
    bool data_failed;   /* a stream other than the control stream failed: `data_error` says how */
    bool link_failed;   /* EVENT_LINK_LOST was posted */
    bool control_ended; /* nothing more will be read from the control stream */
    unsigned failed_beats; /* heartbeats since data_failed */
    struct drafter_error data_error;

    pthread_t heartbeat;
    bool heartbeat_running;
};

int session_init(struct session *session);

/* Closes the streams; all threads that use them have ended. */
void session_release(struct session *session);

void session_post(struct session *session, enum machine_event event, uint64_t argument);
void session_post_error(struct session *session, enum machine_event event,
                        const struct drafter_error *error);

/* The same under `lock`. */
void session_post_locked(struct session *session, enum machine_event event,
                         const struct drafter_error *error);

/* The same for what the peer said, of which a noisy one gets only so many into the queue. */
void session_hear(struct session *session, enum machine_event event, uint64_t argument);
void session_hear_error(struct session *session, enum machine_event event,
                        const struct drafter_error *error);

/*
 * A stream failed.  The control stream may still carry the peer's last words, so only its own end is
 * EVENT_LINK_LOST at once; after that of another stream it gets a heartbeat or two.
 */
void session_link_lost(struct session *session, const struct stream *stream, int rc);

/* Under `lock`: the present control stream failed, if there is one that did not before. */
void session_control_lost(struct session *session, int rc);

/* Waits for the next event; false when none came within timeout_ms. */
bool session_wait(struct session *session, unsigned timeout_ms, struct session_event *ret_event);

/* Takes the first event that says what went wrong; the others stay. */
bool session_take_error(struct session *session, struct session_event *ret_event);

/* PING each heartbeat on each stream; EVENT_LINK_LOST after SESSION_MISSED_BEATS of silence on one that is read. */
int session_start_heartbeat(struct session *session, struct drafter_error *err);

/* Ends heartbeat and streams; readers see -ECANCELED.  Join them afterwards. */
void session_stop(struct session *session);

/*
 * After session_stop and once no thread uses the streams: frees them and makes the session ready for new
 * ones.  Events that wait stay, but for those that are about the old ones: that the link is lost, or was looked
 * for in vain, a pass sent or acknowledged.
 */
void session_reset_link(struct session *session);

bool session_is_stopping(struct session *session);

/* EVENT_LINK_LOST was posted for the present link. */
bool session_link_is_lost(struct session *session);

/* Is it the link that failed with this errno, rather than what one side wanted or has? */
bool session_error_is_link(int code);

/*
 * After last words (DONE, ABORT, REFUSED) waits at most a second until the peer closed, so that they are
 * not lost with a reset.  The control reader must be running.
 */
void session_linger(struct session *session);

/* The seed of all checksums once the token is known. */
uint64_t session_seed(const uint8_t token[WIRE_TOKEN_SIZE]);

int session_send_text(struct stream *stream, unsigned type, uint64_t argument, char *text);
void session_send_refusal(struct stream *stream, unsigned type, uint64_t argument, const char *step,
                          const struct drafter_error *error);

#endif
