/* SPDX-License-Identifier: BSD-2-Clause */
/* The deciding thread of a destination: events in, the machine's actions out. */
#include "migrate/destination-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>

#define TICK_MS 1000
#define COMPLETING_TICK_MS 20

int destination_new(const struct destination_options *options, struct destination **ret_destination,
                    struct drafter_error *err)
{
    struct destination *destination = calloc(1, sizeof(*destination));

    if (!destination || session_init(&destination->session)) {
        free(destination);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    destination->options = *options;
    if (destination->options.bulk_streams < 1)
        destination->options.bulk_streams = 1;
    if (destination->options.bulk_streams > WIRE_STREAMS_MAX - 2)
        destination->options.bulk_streams = WIRE_STREAMS_MAX - 2;
    destination_machine_init(&destination->machine, options->wait_for_all);
    *ret_destination = destination;
    return 0;
}

void destination_free(struct destination *destination)
{
    if (!destination)
        return;
    for (unsigned i = 0; i < destination->device_count; i++)
        free(destination->expected[i]);
    session_release(&destination->session);
    free(destination);
}

void destination_cancel(struct destination *destination, const char *why)
{
    struct drafter_error error = {0};

    drafter_error_set(&error, ECANCELED, "%s", why);
    session_post_error(&destination->session, EVENT_FAILED, &error);
}

static void remember_error(struct destination *destination, const struct drafter_error *error)
{
    if (!destination->error.code && error->code)
        destination->error = *error;
}

static void fail(struct destination *destination, const struct drafter_error *error)
{
    remember_error(destination, error);
    session_post_error(&destination->session, EVENT_FAILED, error);
}

static void *start_main(void *opaque)
{
    struct destination *destination = opaque;
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};

    if (vm->start && vm->start(vm->opaque, &error)) {
        drafter_error_wrap(&error, "preparing VM %s", destination->offer.vm);
        session_post_error(&destination->session, EVENT_FAILED, &error);
    } else {
        session_post(&destination->session, EVENT_READY, 0);
    }
    return NULL;
}

static void start(struct destination *destination)
{
    struct drafter_error error = {0};

    destination->starter_running =
        !pthread_create(&destination->starter, NULL, start_main, destination);
    if (!destination->starter_running) {
        drafter_error_set(&error, EAGAIN, "cannot start a thread");
        fail(destination, &error);
    }
}

static void journal(struct destination *destination, enum ledger_state state)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};

    if (vm->journal(vm->opaque, state, destination->epoch, destination->session.control->peer,
                    destination->session.token, &error))
        fail(destination, &error);
    else
        session_post(&destination->session, EVENT_JOURNALED, 0);
}

static void load(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};

    for (unsigned i = 0; i < destination->device_count; i++)
        block_device_take_authority(destination->devices[i].block);
    if (vm->load && vm->load(vm->opaque, &error)) {
        drafter_error_wrap(&error, "loading VM %s", destination->offer.vm);
        fail(destination, &error);
    } else {
        session_post(&destination->session, EVENT_LOADED, 0);
    }
}

static void resume(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};

    if (vm->resume && vm->resume(vm->opaque, &error)) {
        drafter_error_wrap(&error, "resuming VM %s", destination->offer.vm);
        fail(destination, &error);
        return;
    }
    log_info("destination", "VM %s runs here, %.1f ms after it was handed over",
             destination->offer.vm, (double)(drafter_now_ns() - destination->committed_at) / 1e6);
    session_post(&destination->session, EVENT_RESUMED, 0);
}

static void send_signal(struct destination *destination, unsigned type, uint64_t argument)
{
    int rc = stream_send_signal(destination->session.control, type, argument);

    if (rc)
        session_link_lost(&destination->session, destination->session.control, rc);
}

static void act(struct destination *destination, unsigned actions)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct stream *control = destination->session.control;

    if (actions & ACTION_START)
        start(destination);
    if (actions & ACTION_SEND_READY)
        send_signal(destination, WIRE_READY, 0);
    if (actions & ACTION_JOURNAL)
        journal(destination, LEDGER_OWNED);
    if (actions & ACTION_LOAD)
        load(destination);
    if (actions & ACTION_RESUME)
        resume(destination);
    if (actions & ACTION_SEND_RESUMED) {
        send_signal(destination, WIRE_RESUMED, destination->epoch);
        if (vm->resumed)
            vm->resumed(vm->opaque);
    }
    if (actions & ACTION_JOURNAL_REFUSAL)
        journal(destination, LEDGER_REFUSED);
    if (actions & ACTION_SEND_REFUSED)
        session_send_refusal(control, WIRE_REFUSED, destination->epoch,
                             destination_state_name(destination->machine.state_before),
                             &destination->error);
    if (actions & ACTION_SEND_COMPLETE)
        send_signal(destination, WIRE_COMPLETE, 0);
    destination->last_words |= (actions & (ACTION_SEND_ABORT | ACTION_SEND_REFUSED)) != 0;
    if (actions & ACTION_SEND_ABORT)
        session_send_refusal(control, WIRE_ABORT, 0,
                             destination_state_name(destination->machine.state_before),
                             &destination->error);
}

static void on_event(struct destination *destination, const struct session_event *event)
{
    if (event->event == EVENT_COMMIT && destination->machine.state == DESTINATION_ARRIVING) {
        destination->committed_at = drafter_now_ns();
        destination->epoch = event->argument;
    }
    remember_error(destination, &event->error);
    act(destination, destination_step(&destination->machine, event->event));
}

/* Once the source has sent all, whatever is still missing is asked for; then comes the proof. */
static void maybe_complete(struct destination *destination)
{
    bool sent;

    pthread_mutex_lock(&destination->session.lock);
    sent = destination->sent;
    pthread_mutex_unlock(&destination->session.lock);
    if (!sent || destination->completer_running)
        return;
    if (!destination_all_present(destination)) {
        destination_request_missing(destination);
        return;
    }
    destination->completer_running = !pthread_create(&destination->completer, NULL,
                                                     destination_complete_main, destination);
}

static void report(struct destination *destination)
{
    struct destination_progress progress = {.state = destination->machine.state};

    if (!destination->options.progress)
        return;
    for (unsigned i = 0; i < destination->device_count; i++) {
        struct block_device *block = destination->devices[i].block;

        progress.total_bytes += block->size;
        progress.missing_bytes += block_map_missing(&block->map) << DRAFTER_PAGE_SHIFT;
    }
    for (unsigned i = 0; i < destination->session.bulk_count; i++)
        progress.received_bytes +=
            __atomic_load_n(&destination->session.bulk[i]->bytes_received, __ATOMIC_RELAXED);
    destination->options.progress(destination->options.progress_opaque, &progress);
}

static bool ended(const struct destination *destination)
{
    return destination->machine.state == DESTINATION_DONE ||
           destination->machine.state == DESTINATION_FAILED;
}

static int greet(struct destination *destination, struct drafter_error *err)
{
    const struct destination_vm *vm = &destination->options.vm;
    int rc = destination_greet(destination, err);

    if (rc)
        return rc;
    rc = vm->prepare(vm->opaque, &destination->offer, destination->devices, err);
    if (rc) {
        session_send_refusal(destination->session.control, WIRE_ABORT, 0, "preflight", err);
        return rc;
    }
    destination->prepared = true;
    destination->device_count = destination->offer.device_count;
    for (unsigned i = 0; !rc && i < destination->device_count; i++)
        rc = block_device_begin_remote(destination->devices[i].block, destination_need, destination);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot set up the arrival");
    return destination_accept(destination, err);
}

/* Lets readers of missing pages go, ends all threads. */
static void join_threads(struct destination *destination)
{
    if (destination->last_words && destination->control_running)
        session_linger(&destination->session);
    for (unsigned i = 0; i < destination->device_count; i++)
        if (destination->machine.state != DESTINATION_DONE)
            block_map_fail(&destination->devices[i].block->map, EIO);
    session_stop(&destination->session);
    for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++)
        if (destination->readers[i].running)
            pthread_join(destination->readers[i].thread, NULL);
    if (destination->control_running)
        pthread_join(destination->control_reader, NULL);
    if (destination->starter_running)
        pthread_join(destination->starter, NULL);
    if (destination->completer_running)
        pthread_join(destination->completer, NULL);
}

static enum destination_outcome finish(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;

    join_threads(destination);
    if (destination->machine.state == DESTINATION_DONE)
        return DESTINATION_OUTCOME_COMPLETE;
    if (destination->machine.state != DESTINATION_FAILED &&
        destination->machine.state >= DESTINATION_COMPLETING)
        return destination->machine.complete ? DESTINATION_OUTCOME_COMPLETE
                                             : DESTINATION_OUTCOME_PARTIAL;
    if (destination->prepared)
        vm->discard(vm->opaque);
    return DESTINATION_OUTCOME_NOTHING;
}

enum destination_outcome destination_run(struct destination *destination, struct drafter_error *err)
{
    struct session_event event;
    bool cut = false;

    if (greet(destination, err)) {
        destination->machine.state = DESTINATION_FAILED;
        return finish(destination);
    }
    session_post(&destination->session, EVENT_OFFER, 0);
    while (!ended(destination) &&
           !(cut && destination->machine.state == DESTINATION_COMPLETING)) {
        bool committed = destination->machine.committed;

        if (session_wait(&destination->session, committed ? COMPLETING_TICK_MS : TICK_MS, &event)) {
            on_event(destination, &event);
            cut |= event.event == EVENT_LINK_LOST;
        } else {
            report(destination);
        }
        maybe_complete(destination);
    }
    *err = destination->error;
    return finish(destination);
}
