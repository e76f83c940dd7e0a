/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the destination share. */
#ifndef MIGRATE_DESTINATION_INTERNAL_H
#define MIGRATE_DESTINATION_INTERNAL_H

#include "migrate/destination.h"

struct destination {
    struct destination_options options;
    struct session session;
    struct destination_machine machine; /* the deciding thread */
    struct offer offer;
    struct destination_device devices[WIRE_DEVICES_MAX];
    unsigned device_count;
    bool prepared;

    /* Under session.lock: */
    unsigned marks;      /* bulk streams on which the newest mark arrived */
    uint64_t mark;       /* its number */
    bool sent;           /* the source has sent everything and its hashes */
    bool loading;        /* the deciding thread is in vm.load: nobody else can find a lost link again */
    char *custom;        /* what came along, or NULL; constant once COMMIT is heard */
    size_t custom_length;
    bool custom_final;   /* COMMIT was heard */
    uint64_t *expected[WIRE_DEVICES_MAX]; /* the source's page hashes; filled by the control reader */

    pthread_rwlock_t link_lock; /* read: the demand stream is used by whoever misses a page;
                                   write: streams are replaced */
    bool cancelled;             /* atomic */
    bool unproven;              /* atomic: the completer failed, and said so with EVENT_FAILED */
    bool outdated;              /* atomic: the completer is to begin again */

    /* The deciding thread: */
    uint64_t fence; /* a later epoch that the source has told of */
    uint64_t epoch, committed_at, reported, refused_at;
    uint64_t complete_after; /* when what could not be made durable is tried again */
    bool stuck;      /* it was tried in vain at least once */
    bool accepted;   /* hashes of what is here were told */
    unsigned attempt; /* of finding a lost link */
    struct destination_outage {
        uint64_t started, pause;
        uint64_t linked_at; /* when the link was found again, with how much of the VM missing */
        uint64_t missing;
        enum destination_state state;
    } outage;
    bool whole;      /* OWNED is in the ledger: a restart knows that everything is here */
    bool owes_complete; /* COMPLETE is to be said as soon as it is */
    bool heard;      /* the source had its say on the end of the session */
    bool recalled;   /* by the ledger alone, which does not say who the source was */
    bool over;       /* the source knows nothing of the session (any more), or has overruled it */
    bool last_words; /* ABORT or REFUSED was said */
    bool partial;    /* the guest runs here, the source is gone, and nobody waits for it */
    struct drafter_error error;

    pthread_t control_reader, starter, completer;
    bool control_running, starter_running, completer_running;
    struct destination_reader {
        struct destination *destination;
        struct stream *stream;
        pthread_t thread;
        bool running;
    } readers[WIRE_STREAMS_MAX];
};

/* destination-read.c: threads that receive. */
int destination_on_pass(struct destination *destination, const struct wire_header *header,
                        const void *payload);
void *destination_control_main(void *opaque);
void destination_fail_waits(struct destination *destination, int code);
void *destination_stream_main(void *opaque);

/* destination-greet.c: connection, offer and streams. */
int destination_greet(struct destination *destination, struct drafter_error *err);

/* Connects to one of the source's addresses, counted round: stream `index` of the session goes there. */
int destination_dial(struct destination *destination, size_t index,
                     struct transport_connection **ret_connection, struct drafter_error *err);
int destination_accept(struct destination *destination, struct drafter_error *err);

int destination_tell_hashes(struct destination *destination, struct drafter_error *err);
int destination_open_streams(struct destination *destination, struct drafter_error *err);
void destination_end_link(struct destination *destination);

/* destination-link.c: a lost link is found again. */
bool destination_relink(struct destination *destination);

/* destination-complete.c: everything arrived: make it durable, prove it. */
void *destination_complete_main(void *opaque);
bool destination_all_present(struct destination *destination);
void destination_request_missing(struct destination *destination);

/* Asks for pages on the demand stream; a block_need_fn. */
void destination_need(void *opaque, struct block_device *device, uint64_t first, uint64_t count);

#endif
