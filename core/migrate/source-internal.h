/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the source share. */
#ifndef MIGRATE_SOURCE_INTERNAL_H
#define MIGRATE_SOURCE_INTERNAL_H

#include "migrate/schedule.h"
#include "migrate/source.h"

#define SOURCE_HAVE_SIZE 16 /* BLAKE2b-128 */

struct source_device {
    struct block_device *block;
    bool early;
    struct converge_device limits;
    uint32_t *sent;    /* atomic: generation each page was last sent in, 0: never */
    uint32_t *announced; /* the deciding thread: pass that each page was last announced in, 0: none */
    uint64_t *cached;  /* constant once suspended: pages whose newest content only the VMM's cache has */
    uint64_t *final;   /* constant once suspended: pages of the last pass */
    uint64_t *probed;  /* the deciding thread: pages written back just before the pause; or NULL */
    uint64_t *delta;   /* constant once suspended: pages of which the peer holds storage's version */
    uint8_t *have;     /* session.lock: per block, hash of what the peer held first; NULL: unknown */
    uint64_t *unread;  /* session.lock: pages that could not be read since the hand-over; NULL: none ever */
    bool *has;         /* session.lock: per block, is `have` filled in, and nothing of it was sent yet */
};

struct source {
    struct source_options options;
    struct session session;
    struct source_machine machine; /* the deciding thread */
    struct source_device devices[WIRE_DEVICES_MAX];
    unsigned device_count;

    /* Under session.lock: */
    struct schedule schedule;
    bool sending;      /* senders may take runs */
    unsigned inflight; /* runs taken and not yet written */
    uint32_t pass;
    bool given;          /* COMMIT was sent: the VM is the peer's, and what it misses is only here */
    uint64_t unread;     /* pages of all devices; they are tried again at... */
    uint64_t unread_at;  /* ...this time */
    uint64_t unread_told; /* the deciding thread: as many the log knows of */
    unsigned streams_wanted; /* bulk streams; 0 until ACCEPT */
    unsigned attached;       /* of them are here */
    bool suspended;
    bool guard_over;             /* the pause has ended in one way or another */
    bool over;                   /* source_relink comes too late */
    bool relinking;              /* PASS from the peer says what it misses */
    bool parted;                 /* the link is gone, and nothing was handed over */
    struct stream *next_control; /* the peer came back on it */

    /* The deciding thread: */
    uint64_t mark, pass_started, pass_sent_before;
    uint64_t dirty_bytes_per_s; /* of the last pass */
    uint64_t reported;          /* when progress was told last */
    char *custom; /* WIRE_CUSTOM_MAX bytes that go ahead of COMMIT, or NULL */
    size_t custom_length;
    bool quiet; /* so little was left by the last pass that writing it back is no wait */
    uint64_t accepted_at, committed_at, paused_at;
    bool resumed;    /* the session is a dead process's; the peer comes back by itself */
    bool broken;     /* the link broke while the peer was to accept */
    bool last_words; /* DONE or ABORT was said */
    bool lost;       /* handed over, the link is gone, and nobody waits for it any more */
    bool cancelled;  /* atomic */
    struct drafter_error error; /* the first failure, of those that were not made good */
    struct drafter_error break_error; /* why the link was lost last */

    pthread_t control_reader, demand_reader, finisher, write_back;
    pthread_t guard;
    bool guard_running;
    bool control_running, demand_running, finisher_running, write_back_running;
    struct source_sender {
        struct source *source;
        struct stream *stream;
        pthread_t thread;
        bool running;
        char *buffer, *base, *encoded; /* a run's content, its version at the peer, differences */
        bool has_base;
    } senders[WIRE_STREAMS_MAX];
};

/* source-send.c: threads that send. */
int source_start_senders(struct source *source, struct drafter_error *err);
void source_join_senders(struct source *source);
int source_send_run(struct source *source, struct source_sender *sender, struct stream *stream,
                    const struct schedule_run *run, uint32_t generation);
/* Under session.lock: what follows the run and is a difference, too, costs next to nothing more. */
void source_extend_run(struct source *source, struct schedule_run *run, unsigned count);
/* Pages that could not be read since the hand-over: it is time to try them again. */
void source_retry_unread(struct source *source);
void source_forget_unread(struct source *source); /* under session.lock: the peer says itself what it misses */
bool source_is_given(struct source *source);
#define SOURCE_RETRY_NS UINT64_C(1000000000)
void source_note_idle(struct source *source); /* tells the deciding thread when all of the pass was sent */
int source_sender_init(struct source_sender *sender, struct source *source, struct stream *stream);
void source_sender_release(struct source_sender *sender);
int source_fetch(struct source *source, unsigned device, void *buffer, uint64_t first,
                 unsigned count);

/* source-link.c: greeting, threads of the link, and the link's loss. */
int source_greet(struct source *source, struct drafter_error *err);
int source_start_threads(struct source *source, struct drafter_error *err);
void source_end_link(struct source *source);
bool source_await_relink(struct source *source);
bool source_handed_over(const struct source *source);

/* source-guard.c: bounds the pause ahead of COMMIT. */
#define SOURCE_PAUSE_MAX_NS UINT64_C(1500000000)
int source_guard_start(struct source *source, struct drafter_error *err);
void source_guard_end(struct source *source);

/* source-read.c: threads that listen to the peer. */
void *source_control_main(void *opaque);
void *source_demand_main(void *opaque);

/* source-pass.c: passes, and the last of them. */
int source_begin_pass(struct source *source, struct drafter_error *err);
int source_drain(struct source *source);
bool source_judge(struct source *source, struct drafter_error *err);
int source_load_custom(struct source *source, struct drafter_error *err);
int source_suspend(struct source *source, struct drafter_error *err);
void source_allow_sending(struct source *source);
void source_await_write_back(struct source *source);
int source_announce_again(struct source *source);
void source_forget_final(struct source *source);

/* source-recent.c: what the guest wrote last; asked in its pause, where probes were placed before. */
void source_place_probes(struct source *source);
void source_prefer_recent(struct source *source); /* under session.lock */

/* source-finish.c: everything was sent: prove it. */
void *source_finish_main(void *opaque);

#endif
