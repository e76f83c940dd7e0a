/* SPDX-License-Identifier: BSD-2-Clause */
/* The deciding thread of a destination: events in, the machine's actions out. */
#include "migrate/destination-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"
#include "util/words.h"

#include <string.h>

#define TICK_MS 1000
#define COMPLETING_TICK_MS 20
#define REFUSAL_ANSWER_NS UINT64_C(3000000000)
#define COMPLETE_AGAIN_NS UINT64_C(1000000000)

int destination_new(const struct destination_options *options, struct destination **ret_destination,
                    struct drafter_error *err)
{
    struct destination *destination = calloc(1, sizeof(*destination));

    if (!destination || session_init(&destination->session)) {
        free(destination);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    destination->options = *options;
    pthread_rwlock_init(&destination->link_lock, NULL);
    if (destination->options.bulk_streams < 1)
        destination->options.bulk_streams = 1;
    if (destination->options.bulk_streams + 2 < words_count(options->address)) /* each gets one */
        destination->options.bulk_streams = (unsigned)words_count(options->address) - 2;
    if (destination->options.bulk_streams > WIRE_STREAMS_MAX - 2)
        destination->options.bulk_streams = WIRE_STREAMS_MAX - 2;
    destination_machine_init(&destination->machine, options->wait_for_all);
    *ret_destination = destination;
    return 0;
}

const char *destination_source_identity(const struct destination *destination)
{
    return destination->session.identity;
}

void destination_free(struct destination *destination)
{
    if (!destination)
        return;
    for (unsigned i = 0; i < destination->device_count; i++)
        free(destination->expected[i]);
    free(destination->custom);
    session_release(&destination->session);
    pthread_rwlock_destroy(&destination->link_lock);
    free(destination);
}

const char *destination_device_name(const struct destination *destination, unsigned device)
{
    return destination->offer.devices[device].name;
}

const uint8_t *destination_token(const struct destination *destination)
{
    return destination->session.token;
}

void destination_cancel(struct destination *destination, const char *why)
{
    struct drafter_error error = {0};

    drafter_error_set(&error, ECANCELED, "%s", why);
    __atomic_store_n(&destination->cancelled, true, __ATOMIC_RELAXED);
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

static int write_ledger(struct destination *destination, enum ledger_state state)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};
    int rc = vm->journal(vm->opaque, state, destination->epoch, destination->options.address,
                         destination->session.token, &error);

    if (!rc)
        return 0;
    remember_error(destination, &error);
    session_post_error(&destination->session,
                       state == LEDGER_REFUSED ? EVENT_REFUSAL_FAILED : EVENT_JOURNAL_FAILED, &error);
    return rc;
}

/* Whoever goes on after our death must find it, too: so ahead of the record. */
static int keep_custom(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct drafter_error error = {0};

    if (!vm->custom ||
        !vm->custom(vm->opaque, destination->custom, destination->custom_length, &error))
        return 0;
    remember_error(destination, &error);
    session_post_error(&destination->session, EVENT_JOURNAL_FAILED, &error);
    return -error.code;
}

/* Ours from now on, though not all of it is here. */
static void journal(struct destination *destination)
{
    if (keep_custom(destination) || write_ledger(destination, LEDGER_INCOMPLETE))
        return;
    if (failpoint(FAILPOINT_OWNED))
        session_post_error(&destination->session, EVENT_JOURNAL_FAILED,
                           &(struct drafter_error){.code = EIO, .message = "a failpoint"});
    else
        session_post(&destination->session, EVENT_JOURNALED, 0);
}

static void journal_refusal(struct destination *destination)
{
    if (!destination->epoch) /* the link broke before COMMIT could be heard */
        destination->epoch = destination->offer.epoch + 1;
    if (!write_ledger(destination, LEDGER_REFUSED))
        session_post(&destination->session, EVENT_REFUSAL_JOURNALED, 0);
}

/*
 * Loading may wait for pages, and this thread alone can find a lost link again: so a link that is lost
 * meanwhile fails those waits, and with them the load, which is then refused.
 */
static int load_vm(struct destination *destination, struct drafter_error *err)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct session *session = &destination->session;
    int rc;

    pthread_mutex_lock(&session->lock);
    destination->loading = true;
    if (session->control_ended)
        destination_fail_waits(destination, EIO);
    pthread_mutex_unlock(&session->lock);
    rc = vm->load ? vm->load(vm->opaque, err) : 0;
    pthread_mutex_lock(&session->lock);
    destination->loading = false;
    destination_fail_waits(destination, 0);
    pthread_mutex_unlock(&session->lock);
    return rc;
}

static void load(struct destination *destination)
{
    struct drafter_error error = {0};

    for (unsigned i = 0; i < destination->device_count; i++)
        block_device_take_authority(destination->devices[i].block);
    if (load_vm(destination, &error) || failpoint(FAILPOINT_LOADED)) {
        if (!error.code)
            drafter_error_set(&error, EIO, "a failpoint");
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

    if ((vm->resume && vm->resume(vm->opaque, &error)) || failpoint(FAILPOINT_RESUMED)) {
        if (!error.code)
            drafter_error_set(&error, EIO, "a failpoint");
        drafter_error_wrap(&error, "resuming VM %s", destination->offer.vm);
        vm->stop(vm->opaque); /* it may have resumed all the same: not after this */
        remember_error(destination, &error);
        session_post_error(&destination->session, EVENT_RESUME_FAILED, &error);
        return;
    }
    log_info("destination", "VM %s runs here, %.1f ms after it was handed over",
             destination->offer.vm, (double)(drafter_now_ns() - destination->committed_at) / 1e6);
    session_post(&destination->session, EVENT_RESUMED, 0);
    failpoint(FAILPOINT_AFTER_RESUME);
    if (vm->resumed)
        vm->resumed(vm->opaque);
}

/* The guest first: whoever told of it may run it already. */
static void fence(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;

    vm->stop(vm->opaque);
    destination->epoch = destination->fence;
    if (!write_ledger(destination, LEDGER_RELINQUISHED))
        log_warning("destination", "VM %s was ended here: it belongs to %s since epoch %llu",
                    destination->offer.vm, destination->options.address,
                    (unsigned long long)destination->epoch);
}

static void send_signal(struct destination *destination, unsigned type, uint64_t argument)
{
    struct stream *control = destination->session.control;
    int rc = control ? stream_send_signal(control, type, argument) : 0;

    if (rc)
        session_link_lost(&destination->session, destination->session.control, rc);
}

/*
 * Everything is here and the guest runs, but a disk refuses to keep it: tried again until it works or
 * the operator wants an end, as the source has the pages so long.
 */
static void complete_later(struct destination *destination, const struct drafter_error *error)
{
    if (destination->completer_running)
        pthread_join(destination->completer, NULL);
    destination->completer_running = false;
    destination->complete_after = drafter_now_ns() + COMPLETE_AGAIN_NS;
    if (!destination->stuck)
        log_warning("destination", "VM %s runs here, but what arrived cannot be made durable yet: %s; "
                    "trying again", destination->offer.vm, error->message);
    destination->stuck = true;
}

/* Unless a restart knows that everything is here, too, the source keeps it. */
static bool own_whole(struct destination *destination)
{
    if (destination->whole)
        return true;
    if (write_ledger(destination, LEDGER_OWNED)) {
        complete_later(destination, &destination->error);
        return false;
    }
    destination->whole = true;
    failpoint(FAILPOINT_LAST_BLOCK);
    return true;
}

static void say_complete(struct destination *destination)
{
    destination->owes_complete = !own_whole(destination);
    if (!destination->owes_complete)
        send_signal(destination, WIRE_COMPLETE, 0);
}

/* Also while there is no link to say it on; a disk that refused it is asked again. */
static void maybe_own(struct destination *destination)
{
    if (!destination->machine.complete || destination->machine.state != DESTINATION_COMPLETING ||
        drafter_now_ns() < destination->complete_after)
        return;
    if (own_whole(destination) && destination->owes_complete && destination->machine.linked)
        say_complete(destination);
}

/* While the guest is being loaded or resumed that comes first; the link is looked for afterwards. */
static void wait_link(struct destination *destination)
{
    enum destination_state state = destination->machine.state;

    if (state == DESTINATION_RESUMING ||
        (state == DESTINATION_OWNING && !destination->machine.wait_for_all))
        return;
    if (!destination_relink(destination) && state == DESTINATION_COMPLETING && !destination->fence)
        destination->partial = true;
}

static void act(struct destination *destination, unsigned actions)
{
    struct stream *control = destination->session.control;

    if (!control) /* there is nobody to say it to */
        actions &= ~(unsigned)(ACTION_SEND_ABORT | ACTION_SEND_REFUSED);
    if (actions & ACTION_START)
        start(destination);
    if (actions & ACTION_FENCE)
        fence(destination);
    if (actions & ACTION_SEND_READY && destination->options.vm.ready)
        destination->options.vm.ready(destination->options.vm.opaque);
    if (actions & ACTION_SEND_READY)
        send_signal(destination, WIRE_READY, 0);
    if (actions & ACTION_JOURNAL)
        journal(destination);
    if (actions & ACTION_LOAD)
        load(destination);
    if (actions & ACTION_RESUME)
        resume(destination);
    if (actions & ACTION_SEND_RESUMED) {
        send_signal(destination, WIRE_RESUMED, destination->epoch);
        failpoint(FAILPOINT_PULL);
    }
    if (actions & ACTION_JOURNAL_REFUSAL)
        journal_refusal(destination);
    if (actions & ACTION_SEND_REFUSED)
        session_send_refusal(control, WIRE_REFUSED, destination->epoch,
                             destination_state_name(destination->machine.state_before),
                             &destination->error);
    if (actions & ACTION_SEND_COMPLETE)
        say_complete(destination);
    if (actions & ACTION_WAIT_LINK)
        wait_link(destination);
    destination->last_words |= (actions & (ACTION_SEND_ABORT | ACTION_SEND_REFUSED)) != 0;
    if (actions & ACTION_SEND_ABORT)
        session_send_refusal(control, WIRE_ABORT, 0,
                             destination_state_name(destination->machine.state_before),
                             &destination->error);
}

/* Did the completer post this failure? */
static bool is_unproven(struct destination *destination, const struct session_event *event)
{
    return event->event == EVENT_FAILED && event->error.code != ECANCELED &&
           __atomic_exchange_n(&destination->unproven, false, __ATOMIC_ACQUIRE);
}

static void on_event(struct destination *destination, const struct session_event *event)
{
    if (event->event == EVENT_COMMIT && destination->machine.state == DESTINATION_ARRIVING) {
        destination->committed_at = drafter_now_ns();
        destination->epoch = event->argument;
        if (destination->options.kept)
            destination->options.kept->epoch = destination->epoch;
        failpoint(FAILPOINT_COMMIT);
    }
    if (event->event == EVENT_DONE)
        failpoint(FAILPOINT_DONE);
    if (is_unproven(destination, event) &&
        (destination->machine.state == DESTINATION_RESUMING ||
         (destination->machine.state == DESTINATION_COMPLETING && event->error.code != EBADMSG)))
        complete_later(destination, &event->error);
    if (event->event == EVENT_FENCED) /* that the link broke before is not why it ends */
        destination->error = event->error;
    remember_error(destination, &event->error);
    if (event->event == EVENT_FAILED && event->error.code == EBADMSG &&
        destination->machine.state == DESTINATION_COMPLETING) {
        log_error("destination", "VM %s: %s", destination->offer.vm, event->error.message);
        destination->partial = true; /* never COMPLETE: the source still has the truth */
    }
    act(destination, destination_step(&destination->machine, event->event));
    destination->heard |= event->event == EVENT_ENDED;
    if (event->event == EVENT_ENDED)
        destination->last_words = false; /* the peer has heard them and waits for us to go */
}

/* The source has heard our refusal long ago, or it plays for time. */
static void end_refusal(struct destination *destination)
{
    const struct drafter_error none = {0};
    uint64_t now = drafter_now_ns();

    if (destination->machine.state != DESTINATION_REFUSED)
        return;
    if (!destination->refused_at)
        destination->refused_at = now;
    if (now - destination->refused_at >
        (uint64_t)destination->options.relink_timeout_ms * 1000000 + REFUSAL_ANSWER_NS)
        session_post_error(&destination->session, EVENT_LINK_GONE, &none);
}

/* Once the source has sent all, whatever is still missing is asked for; then comes the proof. */
static void maybe_complete(struct destination *destination)
{
    bool sent;

    if (__atomic_exchange_n(&destination->outdated, false, __ATOMIC_ACQUIRE)) {
        pthread_join(destination->completer, NULL);
        destination->completer_running = false;
    }
    pthread_mutex_lock(&destination->session.lock);
    sent = destination->sent;
    pthread_mutex_unlock(&destination->session.lock);
    if (!sent || destination->completer_running || destination->machine.complete ||
        drafter_now_ns() < destination->complete_after)
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

    if (!destination->options.progress ||
        drafter_now_ns() - destination->reported < (uint64_t)TICK_MS * 1000000)
        return;
    destination->reported = drafter_now_ns();
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

static int begin_remote(struct destination *destination, struct drafter_error *err)
{
    const struct destination_vm *vm = &destination->options.vm;
    int rc = 0;

    for (unsigned i = 0; !rc && i < destination->device_count; i++) {
        struct block_device *block = destination->devices[i].block;
        size_t size = block_map_remote_size(block->map.pages);
        void *memory = NULL;
        bool found = false;

        /* A registry's pages are on its disk; those of a VM may be in a cache that a crash would take. */
        block->unsettled = destination->offer.live;
        if (!vm->memory) {
            rc = block_device_begin_remote(block, destination_need, destination);
            continue;
        }
        rc = vm->memory(vm->opaque, i, size, &memory, &found);
        if (!rc && found != destination->options.adopt)
            rc = -ENODATA;
        if (!rc)
            rc = block_device_begin_remote_in(block, destination_need, destination, memory, found);
    }
    return rc ? drafter_error_errno(err, -rc, "cannot set up the arrival") : 0;
}

/* Whom a successor has to ask, and for what. */
static void keep_offer(struct destination *destination)
{
    struct destination_kept *kept = destination->options.kept;
    cleanup_free char *text = kept ? offer_encode(&destination->offer) : NULL;
    size_t length = text ? strlen(text) : 0;

    if (!kept || !length || length >= sizeof(kept->offer))
        return;
    memcpy(kept->offer, text, length + 1);
    memcpy(kept->identity, destination->session.identity, sizeof(kept->identity));
    kept->epoch = 0;
    kept->layout = DESTINATION_KEPT_LAYOUT;
    __atomic_store_n(&kept->offer_length, (uint32_t)length, __ATOMIC_RELEASE);
}

/* From here on there is a session to come back to. */
static int accept_offer(struct destination *destination, struct drafter_error *err)
{
    int rc = destination_accept(destination, err);

    if (rc && !session_error_is_link(err->code))
        return rc;
    session_post(&destination->session, EVENT_OFFER, 0);
    if (rc)
        session_post_error(&destination->session, EVENT_LINK_LOST, err);
    return 0;
}

static int greet(struct destination *destination, struct drafter_error *err)
{
    const struct destination_vm *vm = &destination->options.vm;
    int rc = destination_greet(destination, err);

    if (rc)
        return rc;
    rc = vm->prepare(vm->opaque, &destination->offer, destination->devices, err);
    if (!rc && failpoint(FAILPOINT_PREFLIGHT)) {
        destination->prepared = true;
        rc = drafter_error_set(err, EIO, "a failpoint");
    }
    if (rc) {
        session_send_refusal(destination->session.control, WIRE_ABORT, 0, "preflight", err);
        return rc;
    }
    destination->prepared = true;
    destination->device_count = destination->offer.device_count;
    keep_offer(destination);
    rc = begin_remote(destination, err);
    return rc ? rc : accept_offer(destination, err);
}

/* What the dead process knew of the source. */
static int recall(struct destination *destination, struct drafter_error *err)
{
    const struct destination_kept *kept = destination->options.kept;
    int rc;

    if (!kept || kept->layout != DESTINATION_KEPT_LAYOUT || !kept->offer_length ||
        kept->offer_length >= sizeof(kept->offer) || kept->identity[sizeof(kept->identity) - 1])
        return drafter_error_set(err, EPROTO, "what is left of the arrival is another version's");
    rc = offer_decode(kept->offer, kept->offer_length, &destination->offer, err);
    if (rc)
        return rc;
    memcpy(destination->session.token, destination->offer.token, WIRE_TOKEN_SIZE);
    memcpy(destination->session.identity, kept->identity, sizeof(kept->identity));
    destination->epoch = kept->epoch;
    destination->device_count = destination->offer.device_count;
    return 0;
}

/* For as long as it takes; false: the operator wants an end, or what is missing will not come. */
static bool find_source(struct destination *destination)
{
    while (!destination_relink(destination)) {
        if (__atomic_load_n(&destination->cancelled, __ATOMIC_RELAXED))
            return false;
        if (!destination->over)
            continue;
        if (destination->fence) /* an event says so */
            return false;
        drafter_error_set(&destination->error, ENOENT, "%s knows nothing of VM %s any more, of which a part is missing",
                          destination->options.address, destination->offer.vm);
        fail(destination, &destination->error);
        return false;
    }
    return true;
}

/* Where the dead process was; what it was about to do is done (again), the link is looked for. */
static void place(struct destination *destination, const struct destination_found *found)
{
    struct destination_machine *machine = &destination->machine;
    unsigned actions = 0;

    *machine = (struct destination_machine){.state = DESTINATION_ARRIVING,
                                            .wait_for_all = destination->options.wait_for_all,
                                            .ready = true,
                                            .committed = found->owned,
                                            .journaled = found->owned,
                                            .complete = found->whole,
                                            .loaded = found->phase != DRAFTER_VMM_WAITING};
    drafter_error_set(&destination->error, ECONNRESET, "the drafter that took it over died");
    session_post_error(&destination->session, EVENT_LINK_LOST, &destination->error);
    if (!found->owned)
        return;
    for (unsigned i = 0; i < destination->device_count; i++)
        block_device_take_authority(destination->devices[i].block);
    if (found->phase == DRAFTER_VMM_RUNNING) {
        machine->state = DESTINATION_COMPLETING;
    } else if (found->phase == DRAFTER_VMM_PAUSED) {
        machine->state = DESTINATION_RESUMING;
        actions = ACTION_RESUME;
    } else { /* the load may need pages that are not here: first the source */
        machine->state = DESTINATION_OWNING;
        actions = machine->complete || !machine->wait_for_all ? ACTION_LOAD : 0;
        if (!machine->complete && !find_source(destination))
            return;
    }
    destination->committed_at = drafter_now_ns();
    act(destination, actions);
}

/* In place of greet: goes on with what a dead process began. */
static int adopt(struct destination *destination, struct drafter_error *err)
{
    const struct destination_vm *vm = &destination->options.vm;
    struct destination_found found = {.phase = DRAFTER_VMM_USELESS};
    int rc = recall(destination, err);

    if (!rc)
        rc = vm->prepare(vm->opaque, &destination->offer, destination->devices, err);
    if (!rc)
        rc = begin_remote(destination, err);
    if (!rc)
        rc = vm->adopt(vm->opaque, &found, err);
    if (!rc && (found.phase == DRAFTER_VMM_USELESS ||
                (!found.owned && found.phase != DRAFTER_VMM_WAITING)))
        rc = drafter_error_set(err, ENOTRECOVERABLE, "the VMM that was left has no use");
    if (rc)
        return rc;
    destination->prepared = true;
    place(destination, &found);
    return 0;
}

/* Lets readers of missing pages go, ends all threads; those of others ask nothing of us any more. */
static void join_threads(struct destination *destination)
{
    if (destination->last_words && destination->control_running)
        session_linger(&destination->session);
    for (unsigned i = 0; i < destination->device_count; i++)
        if (destination->machine.state != DESTINATION_DONE)
            block_map_fail(&destination->devices[i].block->map, EIO);
    destination_end_link(destination);
    if (destination->starter_running)
        pthread_join(destination->starter, NULL);
    if (destination->completer_running)
        pthread_join(destination->completer, NULL);
    for (unsigned i = 0; i < destination->device_count; i++)
        block_map_await_askers(&destination->devices[i].block->map);
}

static enum destination_outcome finish(struct destination *destination)
{
    const struct destination_vm *vm = &destination->options.vm;

    join_threads(destination);
    if (destination->machine.state == DESTINATION_DONE)
        return DESTINATION_OUTCOME_COMPLETE;
    if (destination->machine.state != DESTINATION_FAILED &&
        destination->machine.state >= DESTINATION_COMPLETING)
        return destination->machine.complete && own_whole(destination)
                   ? DESTINATION_OUTCOME_COMPLETE
                   : DESTINATION_OUTCOME_PARTIAL;
    if (destination->machine.fenced)
        return DESTINATION_OUTCOME_FENCED; /* what it wrote is for a person to look at */
    if (destination->prepared)
        vm->discard(vm->opaque);
    return DESTINATION_OUTCOME_NOTHING;
}

/* One event, or what is due without one.  Actions that need the link again look for it first. */
static void step(struct destination *destination)
{
    bool quick = destination->machine.committed;
    struct session_event event;

    if (!session_wait(&destination->session, quick ? COMPLETING_TICK_MS : TICK_MS, &event)) {
        report(destination);
        maybe_complete(destination);
        maybe_own(destination);
        end_refusal(destination);
        return;
    }
    on_event(destination, &event);
    maybe_complete(destination);
    maybe_own(destination);
    if (destination->stuck && __atomic_load_n(&destination->cancelled, __ATOMIC_RELAXED) &&
        destination->machine.state == DESTINATION_COMPLETING)
        destination->partial = true;
}

enum destination_outcome destination_run(struct destination *destination, struct drafter_error *err)
{
    if (destination->options.adopt ? adopt(destination, err) : greet(destination, err)) {
        destination->machine.state = DESTINATION_FAILED;
        return finish(destination);
    }
    while (!ended(destination) && !destination->partial)
        step(destination);
    failpoint(FAILPOINT_CLEANUP);
    *err = destination->error;
    return finish(destination);
}

/* A session that another process had, to say one more thing in it. */
static int recall_session(const struct destination_options *options, const struct ledger_record *record,
                          const char *why, struct destination **ret_destination, struct drafter_error *err)
{
    struct destination *destination;
    int rc = destination_new(options, &destination, err);

    if (rc)
        return rc;
    memcpy(destination->session.token, record->session, sizeof(destination->session.token));
    memcpy(destination->offer.vm, record->vm, sizeof(destination->offer.vm));
    destination->epoch = record->epoch;
    destination->recalled = true;
    destination->machine.ready = true;
    drafter_error_set(&destination->error, ESHUTDOWN, "%s", why);
    session_post_error(&destination->session, EVENT_LINK_LOST, &destination->error);
    *ret_destination = destination;
    return 0;
}

int destination_refuse(const struct destination_options *options, const struct ledger_record *record,
                       struct drafter_error *err)
{
    struct destination *destination;
    int rc = recall_session(options, record, "the drafter ended before the VM ran here", &destination, err);

    if (rc)
        return rc;
    destination->machine.state = DESTINATION_REFUSED;
    destination->machine.state_before = DESTINATION_ARRIVING;
    destination->machine.refused = true;
    while (!ended(destination))
        step(destination);
    join_threads(destination);
    if (!destination->last_words && !destination->heard)
        rc = drafter_error_set(err, ETIMEDOUT, "%s did not answer", options->address);
    destination_free(destination);
    return rc;
}

int destination_confirm(const struct destination_options *options, const struct ledger_record *record,
                        struct drafter_error *err)
{
    struct destination *destination;
    int rc = recall_session(options, record, "the drafter ended before the source was told", &destination, err);

    if (rc)
        return rc;
    destination->machine.state = DESTINATION_COMPLETING;
    destination->machine.committed = destination->machine.journaled = true;
    destination->machine.complete = destination->whole = true;
    destination->options.adopt = true; /* the source may have heard it, and be gone */
    while (!ended(destination) && !destination->partial && !destination->heard)
        step(destination);
    join_threads(destination);
    if (destination->machine.fenced)
        rc = drafter_error_set(err, EPERM, "VM %s was taken away by force: %s", record->vm,
                               destination->error.message);
    else if (destination->heard || destination->over)
        rc = drafter_error_set(err, ESTALE, "%s knows nothing of that", options->address);
    else if (destination->partial)
        rc = drafter_error_set(err, ETIMEDOUT, "%s did not answer", options->address);
    destination_free(destination);
    return rc;
}
