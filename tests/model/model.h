/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hand-over as a graph of states: both machines, both ledgers, an in-order network that breaks,
 * and processes that die and come back with nothing but their ledgers.  The drivers (source.c,
 * destination.c) are what model-act.c says they are: one event at a time, one action at a time, and
 * anything may happen between two of them.
 *
 * A lost message is a lost connection, as the transport is in order: whatever was under way on it
 * may or may not arrive.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "migrate/ledger.h"
#include "migrate/machine.h"

#define MODEL_SOURCE 0
#define MODEL_DESTINATION 1
#define MODEL_EPOCH 1 /* in which the VM starts, at the source */
#define MODEL_QUEUE 12

struct model_side {
    uint8_t up;        /* the process lives */
    uint8_t restarted; /* it died before; what it knows comes from the ledger */
    uint8_t session;   /* its session is not over */
    uint8_t sees_link; /* no LINK_LOST was posted for the present connection */
    uint8_t running;   /* the guest runs here */
    uint8_t ledger, epoch;
    uint8_t queue[MODEL_QUEUE], queued;   /* events for the deciding thread */
    uint8_t inbox[MODEL_QUEUE], received; /* frames on their way here */
    uint32_t todo;                        /* actions of the last step, not yet done */
};

struct model_state {
    struct source_machine source;
    struct destination_machine destination;
    struct model_side side[2];
    uint8_t connected;
    uint8_t broken;  /* not connected, and what is under way may be lost */
    uint8_t said;    /* COMMIT was sent at least once */
    uint8_t arrived; /* all pages are at the destination */
    uint8_t told;    /* 1 + the state in which the destination heard that its session is unknown */
    uint8_t crashes, cuts, failures; /* that may still happen */
    uint8_t taken_over; /* by force, at the source whose operator did not want to wait */
    uint8_t gave_up; /* bit per side that stopped waiting for the link; 4: nothing can be refused */
};

struct model_options {
    bool wait_for_all;
    bool give_up; /* sides may stop waiting for the link at any time */
    bool take_over; /* and then the source's operator may take the VM over by force */
    unsigned crashes, cuts, failures;
};

void model_init(struct model_state *state, const struct model_options *options);

/* Calls `visit` with each successor and what led to it. */
typedef void model_visit_fn(void *opaque, const struct model_state *next, const char *label);
void model_expand(const struct model_state *state, const struct model_options *options,
                  model_visit_fn *visit, void *opaque);

/* What is wrong in a state, or NULL; `final`: nothing can happen any more. */
const char *model_check(const struct model_state *state, const struct model_options *options,
                        bool final);

/* model-act.c: does the lowest action that is to be done; one outcome of `model_outcomes`. */
unsigned model_outcomes(const struct model_state *state, unsigned side);
const char *model_act(struct model_state *state, unsigned side, unsigned outcome);
void model_post(struct model_side *side, enum machine_event event);
bool model_may_run(const struct model_side *side);

/* Set by model_act when an action came too early; NULL: none did. */
extern const char *model_violation;

/* search.c: 0, or 1 after a violation whose way from the start is printed. */
int model_search(const struct model_options *options, uint64_t *ret_states);

#endif
