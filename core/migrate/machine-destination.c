/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/machine.h"

void destination_machine_init(struct destination_machine *machine, bool wait_for_all)
{
    *machine = (struct destination_machine){
        .state = DESTINATION_GREETING, .wait_for_all = wait_for_all, .linked = true};
}

/* The guest never ran here and never will: that is made durable before it is said. */
static unsigned refuse(struct destination_machine *machine)
{
    machine->state_before = machine->state;
    machine->state = DESTINATION_REFUSING;
    return ACTION_JOURNAL_REFUSAL;
}

static unsigned discard(struct destination_machine *machine)
{
    machine->state = DESTINATION_FAILED;
    return ACTION_DISCARD | ACTION_END;
}

/* A COMMIT that was not heard needs no record to be refused: nobody here will ever hear it. */
static unsigned say_refusal(const struct destination_machine *machine)
{
    if (!machine->linked)
        return ACTION_WAIT_LINK;
    return machine->refused ? ACTION_SEND_REFUSED : ACTION_SEND_ABORT;
}

static unsigned on_failure(struct destination_machine *machine)
{
    switch (machine->state) {
    case DESTINATION_GREETING:
    case DESTINATION_ARRIVING:
        machine->state_before = machine->state;
        if (!machine->ready)
            return ACTION_SEND_ABORT | discard(machine);
        machine->state = DESTINATION_REFUSED;
        return say_refusal(machine);
    case DESTINATION_OWNING:
        return refuse(machine);
    default:
        return 0; /* the guest runs or is about to, or it is being refused already */
    }
}

/* The source ended the session, or we end the search for it. */
static unsigned on_over(struct destination_machine *machine, enum machine_event event)
{
    switch (machine->state) {
    case DESTINATION_ARRIVING:
        if (event == EVENT_LINK_GONE && machine->ready) {
            machine->gone = true; /* COMMIT may have been sent: leave a record for the operator */
            return refuse(machine);
        }
        /* fall through */
    case DESTINATION_GREETING:
        machine->state_before = machine->state;
        return discard(machine);
    case DESTINATION_OWNING:
        if (!machine->wait_for_all || machine->complete)
            return 0;
        machine->gone = true; /* what is missing will not come */
        return refuse(machine);
    case DESTINATION_REFUSING:
        machine->gone = true;
        return 0;
    case DESTINATION_REFUSED:
        return discard(machine);
    default:
        return 0;
    }
}

/* A person has decided: what ran here until now must not go on. */
static unsigned on_fenced(struct destination_machine *machine)
{
    if (machine->state != DESTINATION_OWNING && machine->state != DESTINATION_RESUMING &&
        machine->state != DESTINATION_COMPLETING)
        return on_over(machine, EVENT_ENDED);
    machine->state_before = machine->state;
    machine->state = DESTINATION_FAILED;
    machine->fenced = true;
    return ACTION_FENCE | ACTION_END;
}

static unsigned on_link_lost(struct destination_machine *machine)
{
    machine->linked = false;
    switch (machine->state) {
    case DESTINATION_GREETING:
        return on_failure(machine);
    case DESTINATION_ARRIVING:
    case DESTINATION_OWNING:
    case DESTINATION_RESUMING:
    case DESTINATION_COMPLETING:
    case DESTINATION_REFUSED:
        return ACTION_WAIT_LINK;
    default:
        return 0;
    }
}

static unsigned on_link_back(struct destination_machine *machine)
{
    machine->linked = true;
    if (machine->state == DESTINATION_ARRIVING && machine->ready)
        return ACTION_SEND_READY; /* it may have got lost */
    if (machine->state == DESTINATION_COMPLETING)
        return ACTION_SEND_RESUMED | (machine->complete ? ACTION_SEND_COMPLETE : 0);
    return machine->state == DESTINATION_REFUSED ? say_refusal(machine) : 0;
}

static unsigned on_refusal_journaled(struct destination_machine *machine)
{
    machine->state = DESTINATION_REFUSED;
    machine->refused = true;
    return machine->gone ? discard(machine) : say_refusal(machine);
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
    return machine->state == DESTINATION_COMPLETING && machine->linked ? ACTION_SEND_COMPLETE : 0;
}

static unsigned on_owning(struct destination_machine *machine, enum machine_event event)
{
    if (event == EVENT_JOURNALED && !machine->journaled) {
        machine->journaled = true;
        return maybe_load(machine);
    }
    if (event == EVENT_JOURNAL_FAILED)
        return refuse(machine);
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
        if (event == EVENT_READY) {
            machine->ready = true;
            return ACTION_SEND_READY;
        }
        if (event != EVENT_COMMIT)
            return 0;
        machine->committed = true;
        machine->state = DESTINATION_OWNING;
        return ACTION_JOURNAL;
    case DESTINATION_OWNING:
        return on_owning(machine, event);
    case DESTINATION_RESUMING:
        if (event == EVENT_RESUME_FAILED)
            return refuse(machine);
        if (event != EVENT_RESUMED)
            return 0;
        machine->state = DESTINATION_COMPLETING;
        if (!machine->linked)
            return ACTION_WAIT_LINK;
        return ACTION_SEND_RESUMED | (machine->complete ? ACTION_SEND_COMPLETE : 0);
    case DESTINATION_COMPLETING:
        if (event == EVENT_COMMIT)
            return ACTION_SEND_RESUMED; /* the answer got lost: say it again */
        if (event != EVENT_DONE || !machine->complete)
            return 0;
        machine->state = DESTINATION_DONE;
        return ACTION_END;
    case DESTINATION_REFUSING:
        if (event == EVENT_REFUSAL_JOURNALED)
            return on_refusal_journaled(machine);
        /* When it is not durable it must not be said. */
        return event == EVENT_REFUSAL_FAILED ? discard(machine) : 0;
    case DESTINATION_REFUSED:
        return event == EVENT_COMMIT ? say_refusal(machine) : 0;
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
        return on_link_back(machine);
    case EVENT_LINK_GONE:
    case EVENT_ENDED:
        return on_over(machine, event);
    case EVENT_FENCED:
        return on_fenced(machine);
    case EVENT_COMPLETE:
        return on_complete(machine);
    default:
        return on_progress(machine, event);
    }
}

const char *destination_state_name(enum destination_state state)
{
    static const char *const names[] = {
        "greeting", "arriving", "owning", "resuming", "completing",
        "refusing", "refused",  "done",   "failed",
    };

    return state <= DESTINATION_FAILED ? names[state] : "unknown";
}
