/* SPDX-License-Identifier: BSD-2-Clause */
#include "model.h"

#include <string.h>

/*
 * Defects that the search must find; see Makefile.am.  Each is what a careless change of a machine
 * would amount to.
 */
enum {
    PLANT_NONE,
    PLANT_COMMIT_EARLY,
    PLANT_RESUME_EARLY,
    PLANT_TAKE_BACK,
    PLANT_FORGET,
    PLANT_LATE_REFUSAL,
    PLANT_NO_FENCE,
    PLANT_PART_PAUSED,
    PLANT_COMMIT_AGAIN
};
#ifndef PLANT
#define PLANT PLANT_NONE
#endif

static unsigned plant_source(struct source_machine *machine, enum machine_event event,
                             unsigned actions)
{
    if (PLANT == PLANT_COMMIT_EARLY && actions & ACTION_JOURNAL) {
        machine->state = SOURCE_COMMITTED;
        return ACTION_COMMIT;
    }
    if (PLANT == PLANT_PART_PAUSED && actions & ACTION_TAKE_BACK && machine->again) {
        machine->again = machine->suspended = false;
        machine->state = SOURCE_PARTED;
        return ACTION_WAIT_LINK;
    }
    if (PLANT == PLANT_COMMIT_AGAIN && event == EVENT_LINK_BACK && actions & ACTION_BEGIN_PASS) {
        machine->state = SOURCE_COMMITTED;
        return ACTION_COMMIT;
    }
    if (PLANT == PLANT_TAKE_BACK && event == EVENT_LINK_LOST &&
        machine->state == SOURCE_COMMITTED) {
        machine->state = SOURCE_TAKING_BACK;
        return ACTION_TAKE_BACK;
    }
    return actions;
}

static unsigned plant_destination(struct destination_machine *machine, enum machine_event event,
                                  unsigned actions)
{
    if (PLANT == PLANT_RESUME_EARLY && event == EVENT_COMMIT && actions & ACTION_JOURNAL) {
        machine->state = DESTINATION_RESUMING;
        return ACTION_RESUME;
    }
    if (PLANT == PLANT_LATE_REFUSAL && event == EVENT_FAILED &&
        machine->state == DESTINATION_RESUMING) {
        machine->state = DESTINATION_REFUSING;
        return ACTION_JOURNAL_REFUSAL;
    }
    if (PLANT == PLANT_FORGET && event == EVENT_LINK_LOST && actions & ACTION_WAIT_LINK &&
        machine->state == DESTINATION_ARRIVING) {
        machine->state = DESTINATION_FAILED;
        return ACTION_DISCARD | ACTION_END;
    }
    return actions;
}

void model_init(struct model_state *state, const struct model_options *options)
{
    memset(state, 0, sizeof(*state));
    source_machine_init(&state->source, true);
    destination_machine_init(&state->destination, options->wait_for_all);
    for (unsigned i = 0; i < 2; i++) {
        state->side[i].up = state->side[i].session = state->side[i].sees_link = true;
        model_post(&state->side[i], i == MODEL_SOURCE ? EVENT_ACCEPT : EVENT_OFFER);
    }
    state->side[MODEL_SOURCE].running = true;
    state->side[MODEL_SOURCE].ledger = LEDGER_OWNED;
    state->side[MODEL_SOURCE].epoch = MODEL_EPOCH;
    state->connected = true;
    state->crashes = (uint8_t)options->crashes;
    state->cuts = (uint8_t)options->cuts;
    state->failures = (uint8_t)options->failures;
}

static uint8_t take_first(uint8_t *list, uint8_t *count)
{
    uint8_t first = list[0];

    memmove(list, list + 1, MODEL_QUEUE - 1);
    list[MODEL_QUEUE - 1] = 0;
    --*count;
    return first;
}

/* What a reader posts for a frame, in the order of enum frame. */
static enum machine_event event_of(unsigned side, uint8_t frame)
{
    static const enum machine_event events[] = {
        0, EVENT_READY, EVENT_COMMIT, EVENT_RESUMED, EVENT_REFUSED, 0, EVENT_COMPLETE, EVENT_DONE};

    if (frame == 5)
        return side == MODEL_SOURCE ? EVENT_REFUSED : EVENT_ENDED;
    return events[frame];
}

static void forget(struct model_side *side)
{
    memset(side->inbox, 0, sizeof(side->inbox));
    memset(side->queue, 0, sizeof(side->queue));
    side->received = side->queued = 0;
    side->todo = 0;
}

struct expansion {
    const struct model_state *from;
    const struct model_options *options;
    model_visit_fn *visit;
    void *opaque;
};

static struct model_state copy(const struct expansion *expansion)
{
    struct model_state next;

    memcpy(&next, expansion->from, sizeof(next));
    return next;
}

static void give(const struct expansion *expansion, const struct model_state *next,
                 const char *label)
{
    expansion->visit(expansion->opaque, next, label);
}

/* The deciding thread: does what is to be done, else takes the next event. */
static void expand_thread(const struct expansion *expansion, unsigned index)
{
    const struct model_side *side = &expansion->from->side[index];
    struct model_state next;
    enum machine_event event;

    if (side->todo) {
        for (unsigned i = 0; i < model_outcomes(expansion->from, index); i++) {
            const char *label;

            next = copy(expansion);
            label = model_act(&next, index, i);
            give(expansion, &next, label);
        }
        return;
    }
    if (!side->queued)
        return;
    next = copy(expansion);
    event = take_first(next.side[index].queue, &next.side[index].queued);
    next.side[index].todo =
        index == MODEL_SOURCE ? plant_source(&next.source, event, source_step(&next.source, event))
                              : plant_destination(&next.destination, event,
                                                  destination_step(&next.destination, event));
    give(expansion, &next, "handles an event");
}

/* The readers: frames arrive, or the connection is found to be gone. */
static void expand_reader(const struct expansion *expansion, unsigned index)
{
    const struct model_side *side = &expansion->from->side[index];
    struct model_state next = copy(expansion);
    struct model_side *self = &next.side[index];

    if (!side->session || !side->sees_link || side->queued > MODEL_QUEUE - 4)
        return;
    if (side->received) {
        model_post(self, event_of(index, take_first(self->inbox, &self->received)));
        give(expansion, &next, "receives a frame");
    }
    if (expansion->from->connected || (side->received && !expansion->from->broken))
        return;
    next = copy(expansion);
    memset(self->inbox, 0, sizeof(self->inbox));
    self->received = 0;
    self->sees_link = false;
    model_post(self, EVENT_LINK_LOST);
    give(expansion, &next, "finds the link lost");
}

static void expand_faults(const struct expansion *expansion, unsigned index)
{
    const struct model_side *side = &expansion->from->side[index];
    struct model_state next = copy(expansion);
    struct model_side *self = &next.side[index];

    if (side->up && expansion->from->crashes) {
        next.crashes--;
        forget(self);
        self->up = self->session = self->running = self->sees_link = false;
        next.connected = false;
        next.broken = true;
        give(expansion, &next, "crashes");
    }
    if (!side->up) {
        next = copy(expansion);
        self->up = self->restarted = true;
        self->running = self->ledger == LEDGER_OWNED;
        give(expansion, &next, "starts again");
    }
    if (side->session && expansion->from->failures && side->queued < MODEL_QUEUE - 4) {
        next = copy(expansion);
        next.failures--;
        model_post(self, EVENT_FAILED);
        give(expansion, &next, "has a failure, or is cancelled");
    }
    /* A source that waits before the hand-over has a timer. */
    if (index == MODEL_SOURCE && side->session && !side->sees_link && !side->queued && !side->todo &&
        expansion->from->source.state == SOURCE_PARTED) {
        next = copy(expansion);
        model_post(self, EVENT_LINK_GONE);
        give(expansion, &next, "waits no longer for the link");
        return;
    }
    if (expansion->options->give_up && side->session && !side->sees_link && !side->queued &&
        !side->todo && !(expansion->from->gave_up & 1u << index)) {
        next = copy(expansion);
        next.gave_up |= (uint8_t)(1u << index);
        if (index == MODEL_SOURCE)
            self->session = false;
        else
            model_post(self, EVENT_LINK_GONE);
        give(expansion, &next, "gives up waiting for the link");
    }
}

/* Only what was written back can be taken over, which a source that died did not do. */
static void expand_take_over(const struct expansion *expansion)
{
    const struct model_side *source = &expansion->from->side[MODEL_SOURCE];
    struct model_state next = copy(expansion);

    if (!expansion->options->take_over || expansion->from->taken_over || !source->up ||
        source->restarted || source->session || source->ledger != LEDGER_RELINQUISHED ||
        expansion->from->source.state == SOURCE_DONE)
        return;
    next.taken_over = true;
    next.told = 0;
    next.side[MODEL_SOURCE].ledger = LEDGER_OWNED;
    next.side[MODEL_SOURCE].epoch = MODEL_EPOCH + 2;
    next.side[MODEL_SOURCE].running = true;
    give(expansion, &next, "takes the VM over by force");
}

/* The destination connects anew: its session goes on, or nobody knows it any more. */
static void expand_reconnect(const struct expansion *expansion)
{
    const struct model_side *source = &expansion->from->side[MODEL_SOURCE];
    const struct model_side *destination = &expansion->from->side[MODEL_DESTINATION];
    struct model_state next = copy(expansion);

    if (!destination->session || destination->sees_link || !source->up ||
        destination->queued > MODEL_QUEUE - 4 || source->queued > MODEL_QUEUE - 4)
        return;
    if (!source->session) {
        if (next.told == next.destination.state + 1)
            return;
        next.told = (uint8_t)(next.destination.state + 1);
        model_post(&next.side[MODEL_DESTINATION],
                   next.taken_over && PLANT != PLANT_NO_FENCE ? EVENT_FENCED : EVENT_ENDED);
        give(expansion, &next, "hears that its session is unknown");
        return;
    }
    if (source->sees_link)
        return; /* it finds out first */
    next.connected = true;
    next.broken = false;
    for (unsigned i = 0; i < 2; i++) {
        next.side[i].sees_link = true;
        model_post(&next.side[i], EVENT_LINK_BACK);
    }
    give(expansion, &next, "connects anew");
}

static void expand_data(const struct expansion *expansion)
{
    const struct model_state *from = expansion->from;
    struct model_state next = copy(expansion);
    bool sends = from->source.state == SOURCE_COMMITTED || from->source.state == SOURCE_SERVING;
    bool takes = from->destination.state == DESTINATION_OWNING ||
                 from->destination.state == DESTINATION_RESUMING ||
                 from->destination.state == DESTINATION_COMPLETING;

    if (from->arrived || !from->connected || !sends || !takes ||
        !from->side[MODEL_SOURCE].session || !from->side[MODEL_DESTINATION].session)
        return;
    next.arrived = true;
    model_post(&next.side[MODEL_DESTINATION], EVENT_COMPLETE);
    give(expansion, &next, "has received everything");
}

void model_expand(const struct model_state *state, const struct model_options *options,
                  model_visit_fn *visit, void *opaque)
{
    const struct expansion expansion = {state, options, visit, opaque};

    for (unsigned i = 0; i < 2; i++) {
        expand_thread(&expansion, i);
        expand_reader(&expansion, i);
        expand_faults(&expansion, i);
    }
    if (!state->broken && state->cuts) {
        struct model_state next = copy(&expansion);

        next.connected = false;
        next.broken = true;
        next.cuts--;
        give(&expansion, &next, "breaks");
    }
    expand_reconnect(&expansion);
    expand_take_over(&expansion);
    expand_data(&expansion);
}

static const char *check_final(const struct model_state *state, const struct model_options *options)
{
    const struct model_side *source = &state->side[MODEL_SOURCE];
    const struct model_side *destination = &state->side[MODEL_DESTINATION];
    bool faults = state->crashes < options->crashes || state->cuts < options->cuts ||
                  state->failures < options->failures;
    bool crashed = state->crashes < options->crashes;

    if (!model_may_run(source) && !model_may_run(destination) && !crashed && !state->gave_up)
        return "nobody may run the VM, and nothing will change that";
    if (!faults && !(destination->running && state->source.state == SOURCE_DONE))
        return "without any fault the VM does not get to the destination";
    if (destination->session && (destination->sees_link || source->session) && !state->gave_up)
        return "the destination waits for something that will not come";
    if (source->session && source->sees_link && !state->gave_up)
        return "the source waits for something that will not come";
    return NULL;
}

const char *model_check(const struct model_state *state, const struct model_options *options,
                        bool final)
{
    const struct model_side *source = &state->side[MODEL_SOURCE];
    const struct model_side *destination = &state->side[MODEL_DESTINATION];

    if (source->running && destination->running && (final || !state->taken_over))
        return "the VM runs at both nodes";
    if (source->ledger == LEDGER_OWNED && destination->ledger == LEDGER_OWNED &&
        (!state->taken_over || source->epoch == destination->epoch))
        return "both ledgers say OWNED";
    return final ? check_final(state, options) : NULL;
}
