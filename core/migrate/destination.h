/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination of a migration: receives devices, takes the VM over, fetches what is missing.
 */
#ifndef MIGRATE_DESTINATION_H
#define MIGRATE_DESTINATION_H

#include "block/device.h"
#include "migrate/ledger.h"
#include "migrate/session.h"

struct destination_device {
    struct block_device *block;
    bool reuse; /* storage holds something that may be the same: tell the source its hashes */
};

/* How far an adopted VM is: what the ledger says, and what its VMM says. */
struct destination_found {
    bool owned; /* the hand-over is recorded */
    bool whole; /* and that everything is here */
    enum drafter_vmm_phase phase;
};

/*
 * What the destination asks of its side.  `prepare` comes first; `start` runs in a thread of its own,
 * the others in destination_run's.
 */
struct destination_vm {
    void *opaque;

    /*
     * Refuses an offer that does not fit, or makes storage and exposures for its devices, in the
     * offer's order.  The blocks live until destination_run returned.
     */
    int (*prepare)(void *opaque, const struct offer *offer, struct destination_device *ret_devices,
                   struct drafter_error *err);

    /* Gets the VMM ready to load; may read devices, which waits for their pages.  NULL: no VMM. */
    int (*start)(void *opaque, struct drafter_error *err);

    /* Makes a change of ownership durable. */
    int (*journal)(void *opaque, enum ledger_state state, uint64_t epoch, const char *peer,
                   const uint8_t session[16], struct drafter_error *err);

    /*
     * What came along with the VM, at most WIRE_CUSTOM_MAX bytes, or 0; ahead of the record that the VM is
     * here, so it is not in its place before resume.  A failure refuses it.  NULL: nobody wants that.
     */
    int (*custom)(void *opaque, const void *data, size_t length, struct drafter_error *err);

    int (*load)(void *opaque, struct drafter_error *err);
    int (*resume)(void *opaque, struct drafter_error *err);

    /* Ends the VMM, for certain: it was told to resume and said that it failed. */
    void (*stop)(void *opaque);

    /* The guest runs here: hooks and logs; must not take long. */
    void (*resumed)(void *opaque);

    /* Nothing was handed over: removes whatever prepare and start made. */
    void (*discard)(void *opaque);

    /* READY is about to be said: from now on a successor of this process can go on.  NULL: none can. */
    void (*ready)(void *opaque);

    /* Memory for a device's map that may outlive the process.  NULL: ordinary memory. */
    int (*memory)(void *opaque, unsigned device, size_t size, void **ret_memory, bool *ret_found);

    /* In place of start, for an arrival that a dead process began: after `prepare`, takes over the VMM. */
    int (*adopt)(void *opaque, struct destination_found *ret_found, struct drafter_error *err);
};

/*
 * What a successor of a process that died needs to go on with its arrival, in memory that outlives it.
 * Layout 1.
 */
struct destination_kept {
    uint32_t layout;
    uint32_t offer_length; /* bytes of `offer` */
    uint64_t epoch;        /* in which the VM is or would be ours; 0 until COMMIT */
    char identity[DRAFTER_IDENTITY_SIZE]; /* the source's */
    char offer[WIRE_JSON_MAX];
};
#define DESTINATION_KEPT_LAYOUT 1u

struct destination_progress {
    enum destination_state state;
    uint64_t total_bytes, missing_bytes, received_bytes;
};

struct destination_options {
    struct instance *transport;
    const char *address; /* of the source; several, separated by blanks, share the
                            streams: all of them lead to it */
    const char *vm_name; /* "" for whichever the source has */
    const char *role;
    unsigned bulk_streams, connect_timeout_ms;
    unsigned relink_timeout_ms; /* how long to look for a lost source while the guest does not run here;
                                   once it does, there is no limit */
    bool wait_for_all; /* no post-copy */
    struct destination_vm vm;
    struct destination_kept *kept; /* filled as it goes, or NULL */
    bool adopt; /* `kept` is a dead process's: go on with that */
    void (*progress)(void *opaque, const struct destination_progress *progress);
    void *progress_opaque;
};

enum destination_outcome {
    DESTINATION_OUTCOME_COMPLETE, /* everything is here, durable and proven */
    DESTINATION_OUTCOME_NOTHING,  /* the VM stayed at the source; nothing was left here */
    DESTINATION_OUTCOME_FENCED,   /* it was taken away by force, in a later epoch; its VMM has ended */
    DESTINATION_OUTCOME_PARTIAL,  /* the VM is ours but pages are missing and the source is gone */
};

struct destination;

int destination_new(const struct destination_options *options, struct destination **ret_destination,
                    struct drafter_error *err);
void destination_free(struct destination *destination);

/* Who the source has proven to be, once `prepare` is called; "" when its transport cannot know. */
const char *destination_source_identity(const struct destination *destination);

/* Once the offer is there. */
const char *destination_device_name(const struct destination *destination, unsigned device);
const uint8_t *destination_token(const struct destination *destination);

/* Runs the session to its end. */
enum destination_outcome destination_run(struct destination *destination, struct drafter_error *err);

/*
 * Goes back to the session of `record`, whose REFUSED is durable, to say so, until the source has heard it or
 * relink_timeout_ms is over.  Nothing of `options->vm` is called.
 */
int destination_refuse(const struct destination_options *options, const struct ledger_record *record,
                       struct drafter_error *err);

/*
 * As destination_refuse, of a session whose every page is here, durably, and needs no VMM: the source is told that it
 * may let go.  -ESTALE: it knows nothing of the session (any more).  -EPERM: it has the VM in a later epoch; `stop` and
 * `journal` of options->vm were called.
 */
int destination_confirm(const struct destination_options *options, const struct ledger_record *record,
                        struct drafter_error *err);

/*
 * Any thread.  Before COMMIT nothing is left here; after it the session goes on, unless its link is lost:
 * then it ends as PARTIAL.
 */
void destination_cancel(struct destination *destination, const char *why);

#endif
