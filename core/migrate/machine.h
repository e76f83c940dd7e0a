/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two sides of a hand-over as pure state machines: an event goes in, what to do comes out.  No
 * I/O, no clock, no threads, so that every interleaving of events, crashes and lost messages can be
 * played through.  Threads around them (source.c, destination.c) do what is asked and report back.
 *
 *   source       OFFERED -> COPYING <-> DRAINING -> SUSPENDING -> RELINQUISHING -> COMMITTED
 *                        -> SERVING -> DONE
 *                any state before COMMITTED, on any failure -> TAKING_BACK -> FAILED (the VM runs here)
 *                any state before COMMITTED, link lost -> (TAKING_BACK ->) PARTED -> COPYING
 *                COMMITTED, on REFUSED                       -> TAKING_BACK -> FAILED
 *                COMMITTED, when COMMIT could not be sent    -> TAKING_BACK -> FAILED
 *
 *   destination  GREETING -> ARRIVING -> OWNING -> RESUMING -> COMPLETING -> DONE
 *                before READY was said, on any failure       -> FAILED (nothing is left here)
 *                any state, link lost                        -> the same, once the link is back
 *                ARRIVING, on failure                        -> REFUSED -> FAILED (said with ABORT)
 *                OWNING, RESUMING, on failure -> REFUSING -> REFUSED -> FAILED (durable, then said)
 *
 * A destination that hears of a later epoch (somebody took the VM over by force) ends its guest: FAILED.
 *
 * A destination that loses the link looks for it again.  A source that does before COMMIT lets its guest run
 * until the peer is back, and then goes on with what is missing there; not for ever, and not too often.  Once
 * READY was said, COMMIT may be on its way: a destination that does not find the link again then does not just
 * go, it refuses.  It repeats a refusal over every new link until the source has answered with ABORT: if it got
 * lost, both sides would wait for ever.
 */
#ifndef MIGRATE_MACHINE_H
#define MIGRATE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* What happened; each side knows its own. */
enum machine_event {
    EVENT_ACCEPT,       /* source: the peer accepted the offer and its streams are there */
    EVENT_READY,        /* source: the peer's VMM waits for state; destination: ours does */
    EVENT_PASS_SENT,    /* source: everything of this pass was written to the streams */
    EVENT_ACK,          /* source: everything of this pass arrived */
    EVENT_CONVERGED,    /* source: the judgement after an ACK is to suspend */
    EVENT_NOT_CONVERGED,
    EVENT_SUSPENDED,    /* source: paused, state saved, dirty pages listed */
    EVENT_COMMIT_UNSENT, /* source: nothing that could be read as COMMIT has ever left this node */
    EVENT_JOURNALED,    /* the ledger record that was asked for is durable */
    EVENT_RESUMED,      /* source: the peer runs the VM; destination: ours runs */
    EVENT_RESUME_FAILED, /* destination: our VMM did not let the guest run, and is stopped */
    EVENT_REFUSAL_JOURNALED, /* destination: REFUSED is in the ledger */
    EVENT_JOURNAL_FAILED, /* destination: what should be in the ledger may be there or not */
    EVENT_REFUSED,      /* source: the peer has durably refused, or gave up before COMMIT */
    EVENT_SENT,         /* source: everything was sent at least once and its hashes too */
    EVENT_COMPLETE,     /* source: the peer holds everything; destination: we do, durably */
    EVENT_OFFER,        /* destination: the offer fits and devices are ready */
    EVENT_COMMIT,       /* destination: the VM is handed over */
    EVENT_LOADED,       /* destination: CPU and device state are in the VMM */
    EVENT_DONE,         /* destination: the source needs nothing more */
    EVENT_TAKEN_BACK,   /* source: the VM runs here again */
    EVENT_TAKE_BACK_FAILED, /* source: it does not, and stays paused */
    EVENT_FAILED,       /* what was asked for failed, the peer aborted, or we were cancelled */
    EVENT_LINK_LOST,
    EVENT_LINK_BACK,
    EVENT_LINK_GONE,    /* there is no sense in waiting for the link any longer */
    EVENT_ENDED,        /* destination: the source said its last word, or knows no such session */
    EVENT_REFUSAL_FAILED, /* destination: REFUSED may be in the ledger or not */
    EVENT_FENCED, /* destination: the source took the VM back by force, in a later epoch */
};

/* What to do, in this order when several bits are set. */
enum machine_action {
    ACTION_BEGIN_PASS = 1u << 0,     /* source: announce what is dirty, send it */
    ACTION_DRAIN = 1u << 1,          /* source: mark the streams, wait for the ACK */
    ACTION_JUDGE = 1u << 2,          /* source: converged or not? */
    ACTION_SUSPEND = 1u << 3,        /* source: hook, pause, save, list dirty pages, send state */
    ACTION_JOURNAL = 1u << 4,        /* source: RELINQUISHED; destination: OWNED */
    ACTION_COMMIT = 1u << 5,         /* source: send COMMIT */
    ACTION_TAKE_BACK = 1u << 6,      /* source: OWNED again where needed, then let the VM run */
    ACTION_START = 1u << 7,          /* destination: get the VMM ready */
    ACTION_SEND_READY = 1u << 8,
    ACTION_LOAD = 1u << 9,           /* destination: state into the VMM */
    ACTION_RESUME = 1u << 10,        /* destination: let the guest run */
    ACTION_SEND_RESUMED = 1u << 11,
    ACTION_JOURNAL_REFUSAL = 1u << 12, /* destination: REFUSED */
    ACTION_SEND_REFUSED = 1u << 13,
    ACTION_SEND_COMPLETE = 1u << 14,
    ACTION_SEND_DONE = 1u << 15,
    ACTION_SEND_ABORT = 1u << 16,
    ACTION_DISCARD = 1u << 17,       /* destination: remove everything that was made */
    ACTION_WAIT_LINK = 1u << 18,     /* the link is gone, the session is not */
    ACTION_FENCE = 1u << 19, /* destination: end the guest, then record whose it is */
    ACTION_END = 1u << 20,
};

enum source_state {
    SOURCE_OFFERED,
    SOURCE_COPYING,
    SOURCE_DRAINING,
    SOURCE_SUSPENDING,
    SOURCE_RELINQUISHING,
    SOURCE_PARTED,    /* the link is gone, the VM runs here, the peer may come back */
    SOURCE_COMMITTED, /* in doubt: the peer owns the VM unless it refuses */
    SOURCE_SERVING,   /* the peer runs it */
    SOURCE_TAKING_BACK,
    SOURCE_DONE,
    SOURCE_FAILED, /* the VM is (still, or again) ours */
};

struct source_machine {
    enum source_state state;
    enum source_state state_before; /* the one that failed, when taking back */
    bool live;       /* there is a VM; false: a registry, which hands out copies */
    bool ready;      /* the peer's VMM waits */
    bool suspended;  /* our VM is or may be paused by us; set as soon as that begins */
    bool journaled;  /* RELINQUISHED is in the ledger */
    bool linked;
    bool sent, complete;
    bool again;      /* when it is taken back the session goes on */
    unsigned breaks; /* of the link before COMMIT, as they count */
};

/* So often a link may break before the hand-over; in the pause the guest has felt it, and that counts. */
#define SOURCE_BREAKS_MAX 16
#define SOURCE_BREAK_PAUSED 4

enum destination_state {
    DESTINATION_GREETING,
    DESTINATION_ARRIVING,
    DESTINATION_OWNING,
    DESTINATION_RESUMING,
    DESTINATION_COMPLETING,
    DESTINATION_REFUSING,
    DESTINATION_REFUSED, /* it may be said; the source has yet to answer that it heard */
    DESTINATION_DONE,
    DESTINATION_FAILED,
};

struct destination_machine {
    enum destination_state state;
    enum destination_state state_before; /* the one that failed */
    bool wait_for_all; /* no post-copy: load only when every page is here */
    bool ready;        /* READY was said */
    bool refused;      /* REFUSED is durable */
    bool gone;         /* there is no source to say it to */
    bool fenced;       /* another node has it in a later epoch */
    bool committed, journaled, loaded, complete, linked;
};

void source_machine_init(struct source_machine *machine, bool live);
void destination_machine_init(struct destination_machine *machine, bool wait_for_all);

/*
 * Feeds one event; returns the actions.  Events that make no sense in a state (duplicates, late
 * answers, replays) change nothing and return 0.
 */
unsigned source_step(struct source_machine *machine, enum machine_event event);
unsigned destination_step(struct destination_machine *machine, enum machine_event event);

const char *source_state_name(enum source_state state);
const char *destination_state_name(enum destination_state state);

#endif
