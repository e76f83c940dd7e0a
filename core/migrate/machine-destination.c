/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/machine.h"

void destination_machine_init(struct destination_machine *machine, bool wait_for_all)
{
    *machine = (struct destination_machine){
        .state = DESTINATION_GREETING, .wait_for_all = wait_for_all, .linked = true};
}

static unsigned on_failure(struct destination_machine *machine)
{
    if (machine->state != DESTINATION_REFUSING)
        machine->state_before = machine->state;
    switch (machine->state) {
    case DESTINATION_GREETING:
    case DESTINATION_ARRIVING:
        machine->state = DESTINATION_FAILED;
        return (machine->linked ? ACTION_SEND_ABORT : 0) | ACTION_DISCARD | ACTION_END;
    case DESTINATION_OWNING:
    case DESTINATION_RESUMING:
        /* The guest never ran here: give it back, durably first. */
        machine->state = DESTINATION_REFUSING;
        return ACTION_JOURNAL_REFUSAL;
    case DESTINATION_REFUSING:
        machine->state = DESTINATION_FAILED;
        return ACTION_END;
    default:
        return 0; /* the guest runs; the missing pages are still worth waiting for */
    }
}

static unsigned on_link_lost(struct destination_machine *machine)
{
    machine->linked = false;
    if (machine->state < DESTINATION_OWNING)
        return on_failure(machine);
    return machine->state == DESTINATION_COMPLETING || machine->wait_for_all ? ACTION_WAIT_LINK : 0;
}

/* State goes into the VMM once it is ours and, without post-copy, once all pages are here. */
static unsigned maybe_load(const struct destination_machine *machine)
{
    return machine->journaled && (machine->complete || !machine->wait_for_all) ? ACTION_LOAD : 0;
}

static unsigned on_complete(struct destination_machine *machine)
{
    if (machine->complete || machine->state == DESTINATION_FAILED)
        return 0;
    machine->complete = true;
    if (machine->state == DESTINATION_OWNING)
        return machine->wait_for_all ? maybe_load(machine) : 0;
    return machine->state == DESTINATION_COMPLETING ? ACTION_SEND_COMPLETE : 0;
}

static unsigned on_owning(struct destination_machine *machine, enum machine_event event)
{
    if (event == EVENT_JOURNALED && !machine->journaled) {
        machine->journaled = true;
        return maybe_load(machine);
    }
    if (event != EVENT_LOADED)
        return 0;
    machine->loaded = true;
    machine->state = DESTINATION_RESUMING;
    return ACTION_RESUME;
}

static unsigned on_progress(struct destination_machine *machine, enum machine_event event)
{
    switch (machine->state) {
    case DESTINATION_GREETING:
        if (event != EVENT_OFFER)
            return 0;
        machine->state = DESTINATION_ARRIVING;
        return ACTION_START;
    case DESTINATION_ARRIVING:
        if (event == EVENT_READY)
            return ACTION_SEND_READY;
        if (event != EVENT_COMMIT)
            return 0;
        machine->committed = true;
        machine->state = DESTINATION_OWNING;
        return ACTION_JOURNAL;
    case DESTINATION_OWNING:
        return on_owning(machine, event);
    case DESTINATION_RESUMING:
        if (event != EVENT_RESUMED)
            return 0;
        machine->state = DESTINATION_COMPLETING;
        return ACTION_SEND_RESUMED | (machine->complete ? ACTION_SEND_COMPLETE : 0);
    case DESTINATION_COMPLETING:
        if (event == EVENT_COMMIT)
            return ACTION_SEND_RESUMED; /* the answer got lost: say it again */
        if (event != EVENT_DONE)
            return 0;
        machine->state = DESTINATION_DONE;
        return ACTION_END;
    case DESTINATION_REFUSING:
        if (event != EVENT_JOURNALED)
            return 0;
        machine->state = DESTINATION_FAILED;
        return ACTION_SEND_REFUSED | ACTION_DISCARD | ACTION_END;
    default:
        return 0;
    }
}

unsigned destination_step(struct destination_machine *machine, enum machine_event event)
{
    if (machine->state == DESTINATION_DONE || machine->state == DESTINATION_FAILED)
        return 0;
    switch (event) {
    case EVENT_FAILED:
        return on_failure(machine);
    case EVENT_LINK_LOST:
        return on_link_lost(machine);
    case EVENT_LINK_BACK:
        machine->linked = true;
        return machine->state == DESTINATION_COMPLETING
                   ? ACTION_SEND_RESUMED | (machine->complete ? ACTION_SEND_COMPLETE : 0)
                   : 0;
    case EVENT_COMPLETE:
        return on_complete(machine);
    default:
        return on_progress(machine, event);
    }
}

const char *destination_state_name(enum destination_state state)
{
    static const char *const names[] = {
        "greeting", "arriving", "owning", "resuming", "completing", "refusing", "done", "failed",
    };

    return state <= DESTINATION_FAILED ? names[state] : "unknown";
}
