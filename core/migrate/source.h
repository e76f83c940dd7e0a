/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source of a migration: sends devices, hands the VM over, serves what is missing.
 * One struct source is one session with one peer; a registry has many at a time on the same devices.
 */
#ifndef MIGRATE_SOURCE_H
#define MIGRATE_SOURCE_H

#include "block/device.h"
#include "migrate/converge.h"
#include "migrate/ledger.h"
#include "migrate/session.h"

/* What else than the ledger's record a session needs after the hand-over. */
struct source_kept {
    char identity[DRAFTER_IDENTITY_SIZE]; /* the peer's */
    uint32_t pass;                        /* the last one */
    const uint64_t *final[WIRE_DEVICES_MAX]; /* per device: pages announced in it; NULL: unknown, all */
};

/* What the source asks of the VM.  All are called from source_run's thread. */
struct source_vm {
    void *opaque;
    int (*before_suspend)(void *opaque, struct drafter_error *err); /* guest hook; the guest runs */
    void (*foresee)(void *opaque); /* ahead of a pause; or NULL */
    int (*pause)(void *opaque, struct drafter_error *err);
    int (*save)(void *opaque, struct drafter_error *err);   /* into the state device */
    int (*resume)(void *opaque, struct drafter_error *err); /* the hand-over failed */

    /*
     * Ahead of the record that the VM is handed over: what source_resume needs if this process dies.
     * NULL: it cannot be kept.
     */
    int (*keep)(void *opaque, const struct source_kept *kept, struct drafter_error *err);

    /*
     * Ahead of each pass: brings into the devices what the VMM keeps to itself of the guest's changes.  Of
     * the first pass this is called from a thread beside source_run's.  NULL: it keeps nothing to itself.
     */
    int (*gather)(void *opaque, struct drafter_error *err);

    /*
     * What goes along with the VM, ahead of the pause (and once more after a death of this process): at most `size`
     * bytes, as many as *ret_length says.  NULL: nothing does.
     */
    int (*custom)(void *opaque, void *buffer, size_t size, size_t *ret_length,
                  struct drafter_error *err);
};

/* A device as it is migrated. */
struct source_device_options {
    struct block_device *block;
    struct converge_limits limits;
    bool any_order; /* from front to back, whatever is cold */
    bool early; /* send what is left of it ahead of COMMIT: the VMM loads from it */
};

struct source_progress {
    enum source_state state;
    unsigned pass;
    uint64_t total_bytes, left_bytes, sent_bytes;
    uint64_t predicted_downtime_ns;
    uint64_t dirty_bytes_per_s; /* written by the guest during the last pass */
    struct {
        const struct block_device *block;
        uint64_t left_pages;
    } devices[WIRE_DEVICES_MAX];
    unsigned device_count;
    bool converging;            /* each pass leaves less than the one before */
};

struct source_options {
    struct source_device_options devices[WIRE_DEVICES_MAX];
    unsigned device_count;
    const struct source_vm *vm; /* NULL: a registry */
    char peer_node[64];         /* what the peer calls itself; "" unknown */
    struct ledger *ledger;      /* NULL: a registry */
    unsigned relink_timeout_ms; /* how long to wait for a lost peer before the hand-over; after it, for ever */
    struct offer offer;         /* devices, VM, facts; source_new fills token and devices */
    struct converge converge;
    void (*progress)(void *opaque, const struct source_progress *progress); /* each second; NULL */
    void *progress_opaque;
};

/* How it ended. */
enum source_outcome {
    SOURCE_OUTCOME_MOVED, /* the peer has everything */
    SOURCE_OUTCOME_KEPT,  /* the VM is and runs here */
    SOURCE_OUTCOME_LOST,  /* handed over, but the peer was lost before it had everything */
};

struct source;

/*
 * Takes the control stream, on which HELLO was read, when it succeeds.  `options` is copied; devices
 * are borrowed.
 */
int source_new(const struct source_options *options, struct stream *control,
               struct source **ret_source, struct drafter_error *err);
void source_free(struct source *source);

/*
 * Goes on with the session `token` of a process that died after it handed the VM over; `kept`, which is
 * copied, is what source_vm.keep got.
 */
int source_resume(const struct source_options *options, const uint8_t token[WIRE_TOKEN_SIZE],
                  const struct source_kept *kept, struct source **ret_source,
                  struct drafter_error *err);

const uint8_t *source_token(const struct source *source);

/* A further stream of the session arrived (any thread); takes it. */
void source_attach(struct source *source, unsigned index, struct stream *stream);

/*
 * The peer lost its link and says HELLO with the session's token on a new stream.  Takes the stream and
 * returns true unless the session is over.  Any thread.
 */
bool source_relink(struct source *source, struct stream *control);

/*
 * Somebody else wants the VM: a session whose link is gone before the hand-over ends, which this returns; source_run
 * does soon.  Any thread.
 */
bool source_yield(struct source *source, const char *why);

/* Runs the session to its end.  `err` says what went wrong unless the VM moved. */
enum source_outcome source_run(struct source *source, struct drafter_error *err);

/*
 * Asks a running session to end.  Before COMMIT the VM stays here; after it the session goes on, unless
 * its link is lost: then it ends as LOST.  Any thread.
 */
void source_cancel(struct source *source, const char *why);

#endif
