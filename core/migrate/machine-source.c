/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/machine.h"

void source_machine_init(struct source_machine *machine, bool live)
{
    *machine = (struct source_machine){.state = SOURCE_OFFERED, .live = live, .linked = true};
}

static bool before_commit(const struct source_machine *machine)
{
    return machine->state < SOURCE_COMMITTED;
}

/* Nothing was committed: the VM goes on here. */
static unsigned abandon(struct source_machine *machine)
{
    unsigned tell = machine->linked ? ACTION_SEND_ABORT : 0;

    machine->state_before = machine->state;
    if (machine->live && machine->suspended) {
        machine->state = SOURCE_TAKING_BACK;
        return tell | ACTION_TAKE_BACK;
    }
    machine->state = SOURCE_FAILED;
    return tell | ACTION_END;
}

/* Nothing was committed either, but the peer may come back; until then the guest runs here. */
static unsigned part(struct source_machine *machine)
{
    machine->state_before = machine->state;
    machine->breaks += machine->suspended ? SOURCE_BREAK_PAUSED : 1;
    if (machine->suspended) {
        machine->state = SOURCE_TAKING_BACK;
        machine->again = true;
        return ACTION_TAKE_BACK;
    }
    machine->state = SOURCE_PARTED;
    return ACTION_WAIT_LINK;
}

static unsigned after_drain(struct source_machine *machine)
{
    if (machine->live)
        return ACTION_JUDGE;
    /* A registry hands out everything at once; COMMIT only waits for the peer to be ready. */
    machine->state = SOURCE_SERVING;
    return 0;
}

static unsigned on_failure(struct source_machine *machine)
{
    if (before_commit(machine))
        return abandon(machine);
    if (machine->state == SOURCE_TAKING_BACK) /* whoever was to come back is not waited for */
        machine->again = false;
    if (machine->state == SOURCE_SERVING && !machine->live) {
        machine->state_before = machine->state;
        machine->state = SOURCE_FAILED;
        return (machine->linked ? ACTION_SEND_ABORT : 0) | ACTION_END;
    }
    /* After COMMIT only the peer may decide; its data is still needed there. */
    return 0;
}

static unsigned on_link_lost(struct source_machine *machine)
{
    machine->linked = false;
    if (machine->state == SOURCE_PARTED)
        return ACTION_WAIT_LINK;
    if (before_commit(machine))
        return machine->live && machine->breaks < SOURCE_BREAKS_MAX ? part(machine)
                                                                      : abandon(machine);
    if (machine->state != SOURCE_COMMITTED && machine->state != SOURCE_SERVING)
        return 0;
    if (machine->live)
        return ACTION_WAIT_LINK;
    machine->state = SOURCE_FAILED;
    return ACTION_END;
}

static unsigned on_complete(struct source_machine *machine)
{
    if (machine->state != SOURCE_SERVING)
        return 0;
    machine->complete = true;
    machine->state = SOURCE_DONE;
    return ACTION_SEND_DONE | ACTION_END;
}

/* ABORT is the answer to a refusal: until it is heard, the peer repeats it. */
static unsigned on_refused(struct source_machine *machine)
{
    if (machine->state != SOURCE_COMMITTED || !machine->live)
        return on_failure(machine);
    machine->state_before = machine->state;
    machine->state = SOURCE_TAKING_BACK;
    return ACTION_SEND_ABORT | ACTION_TAKE_BACK;
}

static unsigned on_link_back(struct source_machine *machine)
{
    machine->linked = true;
    if (machine->state == SOURCE_TAKING_BACK)
        return machine->again ? 0 : ACTION_SEND_ABORT;
    if (machine->state == SOURCE_PARTED) {
        machine->state = SOURCE_COPYING;
        return ACTION_BEGIN_PASS;
    }
    return machine->state == SOURCE_COMMITTED ? ACTION_COMMIT : 0;
}

static unsigned on_taken_back(struct source_machine *machine, bool failed)
{
    if (machine->state != SOURCE_TAKING_BACK)
        return 0;
    if (failed || !machine->again) {
        machine->state = SOURCE_FAILED;
        return ACTION_END;
    }
    machine->again = machine->suspended = false;
    machine->state = machine->linked ? SOURCE_COPYING : SOURCE_PARTED;
    return machine->linked ? ACTION_BEGIN_PASS : ACTION_WAIT_LINK;
}

static unsigned on_progress(struct source_machine *machine, enum machine_event event)
{
    switch (machine->state) {
    case SOURCE_OFFERED:
        if (event != EVENT_ACCEPT)
            return 0;
        machine->state = SOURCE_COPYING;
        /* Whoever has no VMM to start may be ready before its streams are here. */
        return ACTION_BEGIN_PASS | (machine->ready && !machine->live ? ACTION_COMMIT : 0);
    case SOURCE_COPYING:
        if (event != EVENT_PASS_SENT)
            return 0;
        machine->state = SOURCE_DRAINING;
        return ACTION_DRAIN;
    case SOURCE_DRAINING:
        if (event == EVENT_ACK)
            return after_drain(machine);
        if (event == EVENT_NOT_CONVERGED || (event == EVENT_CONVERGED && !machine->ready)) {
            machine->state = SOURCE_COPYING;
            return ACTION_BEGIN_PASS;
        }
        if (event != EVENT_CONVERGED)
            return 0;
        machine->state = SOURCE_SUSPENDING;
        return ACTION_SUSPEND;
    case SOURCE_SUSPENDING:
        if (event != EVENT_SUSPENDED)
            return 0;
        machine->suspended = true;
        machine->state = SOURCE_RELINQUISHING;
        return ACTION_JOURNAL;
    case SOURCE_RELINQUISHING:
        if (event != EVENT_JOURNALED)
            return 0;
        machine->journaled = true;
        machine->state = SOURCE_COMMITTED;
        return ACTION_COMMIT;
    case SOURCE_COMMITTED:
        if (event == EVENT_COMMIT_UNSENT)
            return abandon(machine);
        if (event == EVENT_RESUMED)
            machine->state = SOURCE_SERVING;
        return 0;
    default:
        return 0;
    }
}

static unsigned on_ready(struct source_machine *machine)
{
    if (machine->ready)
        return 0;
    machine->ready = true;
    if (machine->live || machine->state == SOURCE_OFFERED)
        return 0;
    return ACTION_COMMIT; /* a registry keeps nothing: no ledger, no doubt */
}

unsigned source_step(struct source_machine *machine, enum machine_event event)
{
    if (machine->state == SOURCE_DONE || machine->state == SOURCE_FAILED)
        return 0;
    switch (event) {
    case EVENT_READY:
        return on_ready(machine);
    case EVENT_FAILED:
        return on_failure(machine);
    case EVENT_LINK_LOST:
        return on_link_lost(machine);
    case EVENT_LINK_BACK:
        return on_link_back(machine);
    case EVENT_REFUSED:
        return on_refused(machine);
    case EVENT_LINK_GONE:
        return machine->state == SOURCE_PARTED ? abandon(machine) : 0;
    case EVENT_TAKEN_BACK:
    case EVENT_TAKE_BACK_FAILED:
        return on_taken_back(machine, event == EVENT_TAKE_BACK_FAILED);
    case EVENT_COMPLETE:
        return on_complete(machine);
    case EVENT_SENT:
        machine->sent = true;
        return 0;
    default:
        return on_progress(machine, event);
    }
}

const char *source_state_name(enum source_state state)
{
    static const char *const names[] = {
        "offered",   "copying", "draining",    "suspending", "relinquishing", "parted",
        "committed", "serving", "taking back", "done",       "failed",
    };

    return state <= SOURCE_FAILED ? names[state] : "unknown";
}
