/* SPDX-License-Identifier: BSD-2-Clause */
/* The deciding thread of a source: events in, the machine's actions out. */
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

#define TICK_MS 1000
#define NOT_READY_PAUSE_NS UINT64_C(20000000)
#define READY_TIMEOUT_NS UINT64_C(120000000000)

static int add_device(struct source *source, const struct source_device_options *options)
{
    struct block_device *block = options->block;
    struct source_device *device = &source->devices[source->device_count];
    struct hello_device *offered = &source->options.offer.devices[source->device_count];
    int rc = schedule_add_device(&source->schedule, block->map.pages,
                                 block->block_size >> DRAFTER_PAGE_SHIFT,
                                 options->any_order ? NULL : block->map.heat);

    if (rc)
        return rc;
    device->block = block;
    device->early = options->early;
    device->limits.limits = options->limits;
    memcpy(offered->name, block->name, sizeof(offered->name));
    offered->size = block->size;
    offered->block_size = block->block_size;
    source->device_count++;
    device->sent = calloc(block->map.pages, sizeof(*device->sent));
    device->announced = calloc(block->map.pages, sizeof(*device->announced));
    return device->sent && device->announced ? 0 : -ENOMEM;
}

int source_new(const struct source_options *options, struct stream *control,
               struct source **ret_source, struct drafter_error *err)
{
    struct source *source = calloc(1, sizeof(*source));
    int rc = 0;

    if (!source || session_init(&source->session)) {
        free(source);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    source->options = *options;
    for (unsigned i = 0; !rc && i < options->device_count; i++)
        rc = add_device(source, &options->devices[i]);
    if (rc) {
        source_free(source);
        return drafter_error_errno(err, -rc, "cannot set up the migration");
    }
    source->session.control = control;
    if (control)
        memcpy(source->session.identity, control->identity, sizeof(control->identity));
    randombytes_buf(source->session.token, sizeof(source->session.token));
    memcpy(source->options.offer.token, source->session.token, WIRE_TOKEN_SIZE);
    source->options.offer.device_count = source->device_count;
    source->options.offer.live = options->vm != NULL;
    source_machine_init(&source->machine, options->vm != NULL);
    *ret_source = source;
    return 0;
}

void source_free(struct source *source)
{
    if (!source)
        return;
    for (unsigned i = 0; i < source->device_count; i++) {
        free(source->devices[i].sent);
        free(source->devices[i].announced);
        free(source->devices[i].cached);
        free(source->devices[i].delta);
        free(source->devices[i].probed);
        free(source->devices[i].final);
        free(source->devices[i].unread);
        free(source->devices[i].have);
        free(source->devices[i].has);
    }
    free(source->custom);
    schedule_release(&source->schedule);
    session_release(&source->session);
    free(source);
}

/* Of the paused VM's pages only its cache has the newest content for certain. */
static int resume_device(struct source_device *device, const uint64_t *final, uint32_t pass)
{
    uint64_t pages = device->block->map.pages;

    device->final = bitmap_new(pages);
    device->cached = bitmap_new(pages);
    if (!device->final || !device->cached)
        return -ENOMEM;
    bitmap_set_range(device->cached, 0, pages);
    if (final)
        memcpy(device->final, final, bitmap_words(pages) * sizeof(*final));
    else
        bitmap_set_range(device->final, 0, pages);
    for (uint64_t page = 0; page < pages; page++)
        device->announced[page] = bitmap_test(device->final, page) ? pass : 0;
    return 0;
}

int source_resume(const struct source_options *options, const uint8_t token[WIRE_TOKEN_SIZE],
                  const struct source_kept *kept, struct source **ret_source,
                  struct drafter_error *err)
{
    struct source *source;
    int rc = source_new(options, NULL, &source, err);

    if (rc)
        return rc;
    for (unsigned i = 0; !rc && i < source->device_count; i++)
        rc = resume_device(&source->devices[i], kept->final[i], kept->pass);
    if (rc) {
        source_free(source);
        return drafter_error_errno(err, -rc, "cannot go on with the migration");
    }
    memcpy(source->session.token, token, WIRE_TOKEN_SIZE);
    memcpy(source->options.offer.token, token, WIRE_TOKEN_SIZE);
    memcpy(source->session.identity, kept->identity, sizeof(source->session.identity));
    source->pass = kept->pass;
    source->committed_at = source->paused_at = drafter_now_ns();
    source->resumed = source->suspended = source->given = true;
    source->machine = (struct source_machine){.state = SOURCE_COMMITTED,
                                              .live = true,
                                              .ready = true,
                                              .suspended = true,
                                              .journaled = true};
    drafter_error_set(&source->error, ECONNRESET, "the drafter that had it died");
    source->break_error = source->error;
    if (source_load_custom(source, err)) /* the VM is worth more */
        log_warning("source", "VM %s goes without it: %s", options->offer.vm, err->message);
    *err = (struct drafter_error){0};
    *ret_source = source;
    return 0;
}

const uint8_t *source_token(const struct source *source)
{
    return source->session.token;
}

/* Under session.lock. */
static void cancel(struct source *source, const char *why)
{
    struct drafter_error error = {0};

    drafter_error_set(&error, ECANCELED, "%s", why);
    __atomic_store_n(&source->cancelled, true, __ATOMIC_RELAXED);
    session_post_locked(&source->session, EVENT_FAILED, &error);
}

void source_cancel(struct source *source, const char *why)
{
    lock_scope(&source->session.lock);
    cancel(source, why);
}

bool source_handed_over(const struct source *source)
{
    return source->machine.state >= SOURCE_COMMITTED;
}

/* Under one lock: a peer that comes back in between is not given up, nor is a later loss of its link final. */
bool source_yield(struct source *source, const char *why)
{
    lock_scope(&source->session.lock);
    if (!source->parted)
        return false;
    cancel(source, why);
    return true;
}

static void remember_error(struct source *source, const struct drafter_error *error)
{
    if (!source->error.code && error->code)
        source->error = *error;
}

static void fail(struct source *source, const struct drafter_error *error)
{
    remember_error(source, error);
    session_post_error(&source->session, EVENT_FAILED, error);
}

/* Without a link it need not succeed: that the link is lost is said already. */
static void suspend(struct source *source)
{
    struct drafter_error error = {0};
    int rc = source_suspend(source, &error);

    if (rc && session_link_is_lost(&source->session))
        return;
    if (rc) {
        drafter_error_wrap(&error, "suspending VM %s", source->options.offer.vm);
        fail(source, &error);
    } else {
        session_post(&source->session, EVENT_SUSPENDED, 0);
    }
}

static void journal(struct source *source)
{
    const char *node = source->options.peer_node, *address = source->session.control->peer;
    struct drafter_error error = {0};
    char owner[sizeof(source->options.ledger->record.peer)];
    const struct source_vm *vm = source->options.vm;
    struct source_kept kept = {.pass = source->pass};
    int rc = 0;

    snprintf(owner, sizeof(owner), "%.60s%s%.60s%s", node, *node ? " (" : "", address,
             *node ? ")" : "");
    for (unsigned i = 0; i < source->device_count; i++)
        kept.final[i] = source->devices[i].final;
    memcpy(kept.identity, source->session.identity, sizeof(kept.identity));
    if (vm->keep)
        rc = vm->keep(vm->opaque, &kept, &error);
    if (rc || ledger_write(source->options.ledger, LEDGER_RELINQUISHED, source->options.offer.epoch + 1,
                     owner, source->session.token, &error))
        fail(source, &error);
    else if (failpoint(FAILPOINT_RELINQUISHED))
        fail(source, &(struct drafter_error){.code = EIO, .message = "a failpoint"});
    else
        session_post(&source->session, EVENT_JOURNALED, 0);
}

/* The peer takes it up to COMMIT, so it is said again with each; an empty one takes back what an earlier one said. */
static int send_custom(struct source *source)
{
    struct wire_header header = {.type = WIRE_CUSTOM, .length = (uint32_t)source->custom_length};

    return source->custom ? stream_send(source->session.control, header, source->custom) : 0;
}

/* A registry's package stays here: what cannot be read of it ends the session. */
static void set_given(struct source *source, bool given)
{
    lock_scope(&source->session.lock);
    source->given = given && source->options.vm;
}

/* False: the first COMMIT was not even handed to the transport, so that the peer cannot have it. */
static bool commit(struct source *source)
{
    struct wire_header header = {.type = WIRE_COMMIT,
                                 .generation = source->pass,
                                 .argument = source->options.offer.epoch + 1};
    bool first = !source->committed_at;
    int rc = send_custom(source);

    set_given(source, true); /* ahead of it: the peer may ask for pages before we are back here */
    if (!rc)
        rc = stream_send(source->session.control, header, NULL);
    if (rc && first)
        set_given(source, false);
    source_guard_end(source);
    source->committed_at = drafter_now_ns();
    failpoint(FAILPOINT_COMMIT);
    if (rc)
        session_link_lost(&source->session, source->session.control, rc);
    if (source->options.vm && first && !rc) {
        log_info("source", "VM %s was paused for %.1f ms when it was handed over",
                 source->options.offer.vm,
                 (double)(source->committed_at - source->paused_at) / 1e6);
        source_allow_sending(source);
        failpoint(FAILPOINT_PULL);
    }
    return !rc || !first;
}

/* For now, while the peer is waited for, or for good. */
static void say_taken_back(struct source *source)
{
    source->suspended = false;
    if (!source->machine.again)
        log_warning("source", "VM %s goes on here: %s", source->options.offer.vm,
                    source->error.message);
    session_post(&source->session, EVENT_TAKEN_BACK, 0);
}

/* The VM runs here again.  Only with a journal of that may it: another node could hold the epoch. */
static void take_back(struct source *source)
{
    const struct source_vm *vm = source->options.vm;
    struct ledger *ledger = source->options.ledger;
    struct drafter_error error = {0};
    int rc = 0;

    source_guard_end(source);
    if (source->machine.journaled) {
        rc = ledger_write(ledger, LEDGER_OWNED, source->options.offer.epoch + 2, "",
                          source->session.token, &error);
    } else if (source->machine.state_before == SOURCE_RELINQUISHING) {
        /* The record may have reached the disk though it failed; COMMIT was not sent, so we may run. */
        if (ledger_write(ledger, LEDGER_OWNED, source->options.offer.epoch, "",
                         source->session.token, &error))
            log_warning("source", "%s", error.message);
    }
    if (!rc)
        rc = vm->resume(vm->opaque, &error);
    if (!rc) {
        say_taken_back(source);
        return;
    }
    log_error("source", "VM %s stays paused: %s", source->options.offer.vm, error.message);
    session_post(&source->session, EVENT_TAKE_BACK_FAILED, 0);
}

static void judge(struct source *source)
{
    struct drafter_error error = {0};
    bool converged = source_judge(source, &error);

    if (error.code)
        fail(source, &error);
    else
        session_post(&source->session, converged ? EVENT_CONVERGED : EVENT_NOT_CONVERGED, 0);
}

static void begin_pass(struct source *source)
{
    uint64_t throttle = 0;
    struct drafter_error error = {0};

    for (unsigned i = 0; i < source->device_count; i++)
        if (source->devices[i].limits.limits.set &&
            source->devices[i].limits.limits.cycle_throttle_ns > throttle)
            throttle = source->devices[i].limits.limits.cycle_throttle_ns;
    if (source->pass && !source->machine.ready && throttle < NOT_READY_PAUSE_NS)
        throttle = NOT_READY_PAUSE_NS; /* its VMM is still starting: do not spin */
    if (source->pass && throttle) {
        struct timespec pause = {(time_t)(throttle / 1000000000), (long)(throttle % 1000000000)};

        nanosleep(&pause, NULL);
    }
    if (failpoint(source->pass ? FAILPOINT_CYCLE : FAILPOINT_BULK))
        drafter_error_set(&error, EIO, "a failpoint");
    if (error.code || source_begin_pass(source, &error))
        fail(source, &error);
}

/* Whoever does not come back in time is given up before the hand-over; after it only an operator gives it up. */
static void wait_link(struct source *source)
{
    const struct drafter_error none = {0};

    if (source_await_relink(source))
        return;
    if (source_handed_over(source))
        source->lost = true;
    else
        session_post_error(&source->session, EVENT_LINK_GONE, &none);
}

static void act(struct source *source, unsigned actions)
{
    if (actions & ACTION_BEGIN_PASS)
        begin_pass(source);
    if (actions & ACTION_DRAIN)
        source_drain(source);
    if (actions & ACTION_JUDGE)
        judge(source);
    if (actions & ACTION_SUSPEND)
        suspend(source);
    if (actions & ACTION_JOURNAL)
        journal(source);
    if ((actions & ACTION_COMMIT) && !commit(source))
        actions |= source_step(&source->machine, EVENT_COMMIT_UNSENT);
    if (actions & ACTION_SEND_ABORT)
        session_send_refusal(source->session.control, WIRE_ABORT, 0,
                             source_state_name(source->machine.state_before), &source->error);
    if (actions & ACTION_TAKE_BACK)
        take_back(source);
    if (actions & ACTION_SEND_DONE)
        failpoint(FAILPOINT_DONE);
    if (actions & ACTION_SEND_DONE)
        stream_send_signal(source->session.control, WIRE_DONE, 0);
    if (actions & ACTION_WAIT_LINK)
        wait_link(source);
    source->last_words |= (actions & (ACTION_SEND_ABORT | ACTION_SEND_DONE)) != 0;
}

/* After COMMIT everything left is on its way by itself; then its hashes follow. */
static void maybe_finish(struct source *source)
{
    bool idle;

    if (source->finisher_running ||
        (source->options.vm ? source->machine.state < SOURCE_COMMITTED
                            : source->machine.state != SOURCE_SERVING))
        return;
    pthread_mutex_lock(&source->session.lock);
    idle = !source->inflight && !source->unread && !schedule_left(&source->schedule);
    pthread_mutex_unlock(&source->session.lock);
    if (!idle || source_drain(source))
        return;
    source->finisher_running = !pthread_create(&source->finisher, NULL, source_finish_main, source);
}

static void report(struct source *source)
{
    struct source_progress progress = {
        .state = source->machine.state,
        .predicted_downtime_ns = source->options.converge.predicted_ns,
        .dirty_bytes_per_s = source->dirty_bytes_per_s,
        .converging = source->options.converge.stalled == 0,
    };

    if (!source->options.progress ||
        drafter_now_ns() - source->reported < TICK_MS * UINT64_C(1000000))
        return;
    source->reported = drafter_now_ns();
    pthread_mutex_lock(&source->session.lock);
    progress.pass = source->pass;
    progress.left_bytes = schedule_left(&source->schedule) << DRAFTER_PAGE_SHIFT;
    progress.sent_bytes = source->session.bytes_before;
    progress.device_count = source->device_count;
    for (unsigned i = 0; i < source->device_count; i++) {
        progress.devices[i].block = source->devices[i].block;
        progress.devices[i].left_pages = source->schedule.devices[i].todo_count;
    }
    for (unsigned i = 0; i < source->session.bulk_count; i++)
        if (source->session.bulk[i]) /* when the link broke before all had come, any may lack */
            progress.sent_bytes += __atomic_load_n(&source->session.bulk[i]->bytes_sent, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&source->session.lock);
    for (unsigned i = 0; i < source->device_count; i++)
        progress.total_bytes += source->devices[i].block->size;
    source->options.progress(source->options.progress_opaque, &progress);
}

static void on_event(struct source *source, const struct session_event *event)
{
    unsigned actions;

    if (event->event == EVENT_ACK && event->argument != source->mark)
        return; /* of an earlier pass */
    if (event->event == EVENT_RESUMED && event->argument != source->options.offer.epoch + 1)
        return; /* of another epoch */
    if (event->event == EVENT_RESUMED && source->paused_at) /* a package was never paused */
        log_info("source", "VM %s runs at %s, %.1f ms after it was paused here",
                 source->options.offer.vm, source->session.control->peer,
                 (double)(drafter_now_ns() - source->paused_at) / 1e6);
    if (event->event == EVENT_RESUMED)
        failpoint(FAILPOINT_AFTER_RESUME);
    if (event->event == EVENT_LINK_LOST)
        source->break_error = event->error;
    remember_error(source, &event->error);
    /* A failed suspend has paused the VM already when it says so. */
    source->machine.suspended |= source->suspended;
    actions = source_step(&source->machine, event->event);
    act(source, actions);
    if (event->event == EVENT_PASS_SENT || event->event == EVENT_ACK)
        maybe_finish(source);
}

static bool ended(const struct source *source)
{
    return source->machine.state == SOURCE_DONE || source->machine.state == SOURCE_FAILED;
}

static enum source_outcome outcome(const struct source *source)
{
    if (source->machine.state == SOURCE_DONE)
        return SOURCE_OUTCOME_MOVED;
    return source->machine.state == SOURCE_FAILED ? SOURCE_OUTCOME_KEPT : SOURCE_OUTCOME_LOST;
}

/* Nobody may come back to it from here on; whoever did while it ended is told. */
static void close_session(struct source *source)
{
    struct drafter_error over = {.code = ENOENT, .message = "the session is over here"};
    struct stream *late;

    if (source->last_words && source->control_running)
        session_linger(&source->session);
    pthread_mutex_lock(&source->session.lock);
    source->over = true;
    late = source->next_control;
    source->next_control = NULL;
    pthread_mutex_unlock(&source->session.lock);
    if (late)
        session_send_refusal(late, WIRE_ABORT, 0, "relink", &over);
    stream_free(late);
    source_end_link(source);
    source_await_write_back(source);
}

/* A peer whose VMM never gets ready must not keep the VM from others. */
static void expect_ready(struct source *source)
{
    struct drafter_error error = {0};

    if (source->machine.ready || source->accepted_at == 0 ||
        drafter_now_ns() - source->accepted_at < READY_TIMEOUT_NS)
        return;
    source->accepted_at = 0; /* said once */
    drafter_error_set(&error, ETIMEDOUT, "%s: its VMM did not get ready within %d s",
                      source->session.control->peer, (int)(READY_TIMEOUT_NS / 1000000000));
    fail(source, &error);
}

/* How it begins: with a peer that accepts, or one that has to come back first. */
static int begin(struct source *source, struct drafter_error *err)
{
    int rc;

    if (source->resumed) {
        act(source, ACTION_WAIT_LINK);
        return 0;
    }
    rc = source_greet(source, err);
    if (rc && source->broken) {
        session_post_error(&source->session, EVENT_LINK_LOST, err);
        return 0;
    }
    if (!rc)
        rc = source_start_threads(source, err);
    if (!rc)
        session_post(&source->session, EVENT_ACCEPT, 0);
    return rc;
}

enum source_outcome source_run(struct source *source, struct drafter_error *err)
{
    struct session_event event;

    source->accepted_at = drafter_now_ns();
    if (begin(source, err)) {
        session_send_refusal(source->session.control, WIRE_ABORT, 0, "greeting", err);
        source->last_words = true;
        close_session(source);
        return SOURCE_OUTCOME_KEPT;
    }
    failpoint(FAILPOINT_EXCHANGE);
    while (!ended(source) && !source->lost) {
        expect_ready(source);
        if (session_wait(&source->session, TICK_MS, &event))
            on_event(source, &event);
        source_retry_unread(source);
        report(source);
    }
    failpoint(FAILPOINT_CLEANUP);
    source_guard_end(source);
    close_session(source);
    *err = source->error;
    return outcome(source);
}
