/* SPDX-License-Identifier: BSD-2-Clause */
/* What the drivers do with the machines' actions, and how it may end. */
#include "model.h"

#include <assert.h>
#include <string.h>

const char *model_violation;

/* Frames on the control stream. */
enum frame {
    FRAME_READY = 1,
    FRAME_COMMIT,
    FRAME_RESUMED,
    FRAME_REFUSED,
    FRAME_ABORT,
    FRAME_COMPLETE,
    FRAME_DONE
};

void model_post(struct model_side *side, enum machine_event event)
{
    assert(side->queued < MODEL_QUEUE);
    side->queue[side->queued++] = (uint8_t)event;
}

bool model_may_run(const struct model_side *side)
{
    return side->running || side->ledger == LEDGER_OWNED;
}

static void expect(bool holds, const char *what)
{
    if (!holds && !model_violation)
        model_violation = what;
}

static void send_frame(struct model_state *state, unsigned from, enum frame frame)
{
    struct model_side *to = &state->side[!from];

    if (!state->connected || !state->side[from].sees_link || !to->session || !to->sees_link)
        return;
    assert(to->received < MODEL_QUEUE);
    to->inbox[to->received++] = (uint8_t)frame;
}

static void record(struct model_side *side, enum ledger_state ledger, unsigned epoch)
{
    side->ledger = (uint8_t)ledger;
    side->epoch = (uint8_t)epoch;
}

static void run_here(struct model_state *state, unsigned side)
{
    expect(state->side[side].ledger == LEDGER_OWNED, "the guest runs without a durable OWNED");
    state->side[side].running = true;
}

static void end_session(struct model_state *state, unsigned side)
{
    struct model_side *self = &state->side[side];

    if (side == MODEL_DESTINATION && state->destination.state == DESTINATION_FAILED) {
        expect(!self->running, "a running guest is discarded");
        self->running = false;
    }
    self->session = false;
    self->received = self->queued = 0;
    self->todo = 0;
    state->connected = false;
}

/* A journal write: 0 done, 1 failed and not written, 2 written but reported as failed. */
static void journal(struct model_side *side, unsigned outcome, enum ledger_state ledger,
                    unsigned epoch, enum machine_event done, enum machine_event failed)
{
    if (outcome != 1)
        record(side, ledger, epoch);
    model_post(side, outcome ? failed : done);
}

static void take_back(struct model_state *state)
{
    struct model_side *side = &state->side[MODEL_SOURCE];

    if (state->source.journaled)
        record(side, LEDGER_OWNED, MODEL_EPOCH + 2);
    else if (state->source.state_before == SOURCE_RELINQUISHING)
        record(side, LEDGER_OWNED, MODEL_EPOCH);
    run_here(state, MODEL_SOURCE);
    model_post(side, EVENT_TAKEN_BACK);
}

static const char *act_source(struct model_state *state, unsigned action, unsigned outcome)
{
    struct model_side *side = &state->side[MODEL_SOURCE];

    switch (action) {
    case ACTION_BEGIN_PASS:
        model_post(side, EVENT_PASS_SENT);
        return "sends a pass";
    case ACTION_DRAIN:
        model_post(side, EVENT_ACK);
        return "sees the pass acknowledged";
    case ACTION_JUDGE:
        model_post(side, EVENT_CONVERGED);
        return "judges to suspend";
    case ACTION_SUSPEND:
        side->running = outcome == 1;
        state->source.suspended |= outcome != 1;
        model_post(side, outcome ? EVENT_FAILED : EVENT_SUSPENDED);
        return outcome ? "fails to suspend" : "suspends";
    case ACTION_JOURNAL:
        journal(side, outcome, LEDGER_RELINQUISHED, MODEL_EPOCH + 1, EVENT_JOURNALED, EVENT_FAILED);
        return outcome ? "fails to write RELINQUISHED" : "writes RELINQUISHED";
    case ACTION_COMMIT:
        expect(side->ledger == LEDGER_RELINQUISHED && !side->running,
               "COMMIT is sent before RELINQUISHED is durable");
        if (!state->connected && state->source.linked && !state->said) {
            side->todo |= source_step(&state->source, EVENT_COMMIT_UNSENT);
            return "cannot send COMMIT";
        }
        state->said = true;
        send_frame(state, MODEL_SOURCE, FRAME_COMMIT);
        return "sends COMMIT";
    case ACTION_TAKE_BACK:
        take_back(state);
        return "takes the VM back";
    case ACTION_SEND_DONE:
        send_frame(state, MODEL_SOURCE, FRAME_DONE);
        return "sends DONE";
    case ACTION_SEND_ABORT:
        send_frame(state, MODEL_SOURCE, FRAME_ABORT);
        return "sends ABORT";
    case ACTION_END:
        end_session(state, MODEL_SOURCE);
        return "ends";
    default:
        return "waits for the link";
    }
}

static const char *send_as(struct model_state *state, enum frame frame, const char *label)
{
    send_frame(state, MODEL_DESTINATION, frame);
    return label;
}

static const char *act_destination(struct model_state *state, unsigned action, unsigned outcome)
{
    struct model_side *side = &state->side[MODEL_DESTINATION];

    switch (action) {
    case ACTION_START:
        model_post(side, outcome ? EVENT_FAILED : EVENT_READY);
        return outcome ? "fails to start its VMM" : "starts its VMM";
    case ACTION_JOURNAL:
        journal(side, outcome, LEDGER_OWNED, MODEL_EPOCH + 1, EVENT_JOURNALED,
                EVENT_JOURNAL_FAILED);
        return outcome ? "fails to write OWNED" : "writes OWNED";
    case ACTION_JOURNAL_REFUSAL:
        journal(side, outcome, LEDGER_REFUSED, MODEL_EPOCH + 1, EVENT_REFUSAL_JOURNALED,
                EVENT_REFUSAL_FAILED);
        state->gave_up |= outcome ? 4 : 0; /* a disk that fails twice: an operator's */
        return outcome ? "fails to write REFUSED" : "writes REFUSED";
    case ACTION_FENCE:
        side->running = false;
        record(side, LEDGER_RELINQUISHED, MODEL_EPOCH + 2);
        return "ends its guest";
    case ACTION_LOAD:
        model_post(side, outcome ? EVENT_FAILED : EVENT_LOADED);
        return outcome ? "fails to load" : "loads";
    case ACTION_RESUME:
        if (!outcome)
            run_here(state, MODEL_DESTINATION);
        model_post(side, outcome ? EVENT_RESUME_FAILED : EVENT_RESUMED);
        return outcome ? "fails to resume" : "resumes";
    case ACTION_SEND_READY:
        return send_as(state, FRAME_READY, "sends READY");
    case ACTION_SEND_RESUMED:
        return send_as(state, FRAME_RESUMED, "sends RESUMED");
    case ACTION_SEND_REFUSED:
        expect(side->ledger == LEDGER_REFUSED, "REFUSED is sent before it is durable");
        return send_as(state, FRAME_REFUSED, "sends REFUSED");
    case ACTION_SEND_COMPLETE:
        return send_as(state, FRAME_COMPLETE, "sends COMPLETE");
    case ACTION_SEND_ABORT:
        return send_as(state, FRAME_ABORT, "sends ABORT");
    case ACTION_END:
        end_session(state, MODEL_DESTINATION);
        return "ends";
    default:
        return "waits for the link, or discards";
    }
}

unsigned model_outcomes(const struct model_state *state, unsigned side)
{
    unsigned todo = state->side[side].todo, action = todo & -todo;

    if (!state->failures)
        return 1;
    switch (action) {
    case ACTION_JOURNAL:
    case ACTION_JOURNAL_REFUSAL:
    case ACTION_SUSPEND:
        return 3;
    case ACTION_START:
    case ACTION_LOAD:
    case ACTION_RESUME:
        return 2;
    default:
        return 1;
    }
}

const char *model_act(struct model_state *state, unsigned side, unsigned outcome)
{
    unsigned todo = state->side[side].todo, action = todo & -todo;

    state->side[side].todo &= ~action;
    if (outcome)
        state->failures--;
    return side == MODEL_SOURCE ? act_source(state, action, outcome)
                                : act_destination(state, action, outcome);
}
