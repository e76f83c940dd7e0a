/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passes over what is dirty, and the last one, for which the VM is paused.
 *
 * Storage only sees what the VMM's page cache was made to write back.  A pass begins by that
 * write-back.  The last one must not where many pages are dirty: listing them is quicker than writing
 * them, and as long as storage keeps the version that the peer holds, the difference of the two is all
 * that has to travel.  Where few are, writing them is quicker than the list, which is a walk over all
 * that is cached: then the last pass is written back, too, once before the pause and once in it.
 */
#include "migrate/pageset.h"
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"

#include <string.h>

/* Up to so much is written back in the pause rather than listed; about 5 us a page. */
#define QUIET_BYTES (UINT64_C(8) << 20)

/* Lets the senders take runs; tells the deciding thread at once when there is nothing to send. */
void source_allow_sending(struct source *source)
{
    bool nothing;

    pthread_mutex_lock(&source->session.lock);
    nothing = !schedule_left(&source->schedule) && !source->inflight;
    source->sending = !nothing;
    pthread_cond_broadcast(&source->session.changed);
    pthread_mutex_unlock(&source->session.lock);
    if (nothing)
        session_post(&source->session, EVENT_PASS_SENT, 0);
}

/* Tells the peer which pages the pass sends anew. */
static int announce_pages(struct source *source, unsigned index, const uint64_t *todo,
                          uint32_t generation)
{
    uint64_t pages = source->schedule.devices[index].pages, cursor = 0;
    cleanup_free char *buffer = malloc(WIRE_DATA_MAX);
    struct wire_header header = {
        .type = WIRE_PASS, .device = (uint16_t)index, .generation = generation};

    if (!buffer)
        return -ENOMEM;
    while (cursor < pages) {
        int rc;

        header.length = (uint32_t)pageset_encode(todo, pages, &cursor, buffer, WIRE_DATA_MAX);
        rc = header.length ? stream_send(source->session.control, header, buffer) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int announce(struct source *source, unsigned index, uint32_t generation)
{
    const struct schedule_device *scheduled = &source->schedule.devices[index];
    cleanup_free uint64_t *todo = bitmap_new(scheduled->pages);

    if (!todo)
        return -ENOMEM;
    pthread_mutex_lock(&source->session.lock); /* the peer may ask for pages meanwhile */
    memcpy(todo, scheduled->todo, bitmap_words(scheduled->pages) * sizeof(*todo));
    pthread_mutex_unlock(&source->session.lock);
    return announce_pages(source, index, todo, generation);
}

/* The pages of a device whose last announcement was that of the earliest pass after *pass; false: none. */
static bool next_announced(const struct source_device *device, uint32_t *pass, uint64_t *ret_pages)
{
    uint64_t pages = device->block->map.pages;
    uint32_t next = UINT32_MAX;

    for (uint64_t page = 0; page < pages; page++)
        if (device->announced[page] > *pass && device->announced[page] < next)
            next = device->announced[page];
    memset(ret_pages, 0, bitmap_words(pages) * sizeof(*ret_pages));
    for (uint64_t page = 0; next < UINT32_MAX && page < pages; page++)
        if (device->announced[page] == next)
            bitmap_set(ret_pages, page);
    *pass = next;
    return next < UINT32_MAX;
}

/*
 * Which pass every page was announced in last: the peer may not have heard it, and then trusts an older version.
 * Of what it has heard already nothing changes.
 */
int source_announce_again(struct source *source)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < source->device_count; i++) {
        cleanup_free uint64_t *pages = bitmap_new(source->devices[i].block->map.pages);
        uint32_t pass = 0;

        if (!pages)
            return -ENOMEM;
        while (!rc && next_announced(&source->devices[i], &pass, pages))
            rc = announce_pages(source, i, pages, pass);
    }
    return rc;
}

/* Under session.lock: what is to be sent belongs to this pass. */
static void note_announced(struct source_device *device, const struct schedule_device *scheduled,
                           uint32_t pass)
{
    uint64_t page = bitmap_next_set(scheduled->todo, 0, scheduled->pages);

    for (; page < scheduled->pages;
         page = bitmap_next_set(scheduled->todo, page + 1, scheduled->pages))
        device->announced[page] = pass;
}

/* The guest runs on: its cache is not the last word any more.  No thread sends. */
void source_forget_final(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        size_t size = bitmap_words(device->block->map.pages) * sizeof(uint64_t);

        if (device->cached)
            memset(device->cached, 0, size);
        if (device->final)
            memset(device->final, 0, size);
    }
}

static int announce_all(struct source *source, uint32_t generation)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        int rc = announce(source, i, generation);

        if (rc) {
            session_link_lost(&source->session, source->session.control, rc);
            return rc;
        }
    }
    return 0;
}

static int sync_devices(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;

    if (vm && vm->gather && vm->gather(vm->opaque, err))
        return drafter_error_wrap(err, "what the guest changed in memory");
    for (unsigned i = 0; i < source->device_count; i++) {
        struct block_device *block = source->devices[i].block;
        int rc = block->exposure && source->options.vm ? exposure_sync(block->exposure, err) : 0;

        if (rc)
            return drafter_error_wrap(err, "device %s: cannot write back its cache", block->name);
    }
    return 0;
}

static uint64_t sent_bytes(const struct source *source)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < source->session.bulk_count; i++)
        bytes += __atomic_load_n(&source->session.bulk[i]->bytes_sent, __ATOMIC_RELAXED);
    return bytes;
}

/* Adds what is dirty to what is to be sent in this pass. */
static void collect(struct source *source, uint32_t pass)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct schedule_device *scheduled = &source->schedule.devices[i];
        struct source_device *device = &source->devices[i];

        block_map_take_dirty(&device->block->map, scheduled->todo);
        scheduled->todo_count = bitmap_count(scheduled->todo, scheduled->pages);
        note_announced(device, scheduled, pass);
    }
}

/*
 * The first pass sends everything but the pages that are dirty in the VMM's cache: storage has an old
 * version of those.  They are written back while the pass runs, and belong to the next one.
 */
static int collect_first(struct source *source, struct drafter_error *err)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct block_device *block = source->devices[i].block;
        struct schedule_device *scheduled = &source->schedule.devices[i];
        cleanup_free uint64_t *cached = bitmap_new(block->map.pages);

        if (!cached)
            return drafter_error_set(err, ENOMEM, "out of memory");
        if (source->options.vm && block->exposure &&
            exposure_dirty(block->exposure, cached, block->map.pages, err))
            return drafter_error_wrap(err, "device %s: cannot list its dirty pages", block->name);
        lock_scope(&source->session.lock);
        block_map_take_dirty(&block->map, scheduled->todo);
        schedule_add_all(&source->schedule, i);
        for (size_t word = 0; word < bitmap_words(block->map.pages); word++)
            scheduled->todo[word] &= ~cached[word];
        scheduled->todo_count = bitmap_count(scheduled->todo, scheduled->pages);
        note_announced(&source->devices[i], scheduled, 1);
    }
    return 0;
}

static void *write_back_main(void *opaque)
{
    struct source *source = opaque;
    struct drafter_error error = {0};

    if (sync_devices(source, &error))
        session_post_error(&source->session, EVENT_FAILED, &error);
    return NULL;
}

void source_await_write_back(struct source *source)
{
    if (source->write_back_running)
        pthread_join(source->write_back, NULL);
    source->write_back_running = false;
}

static int begin_first_pass(struct source *source, struct drafter_error *err)
{
    int rc = collect_first(source, err);

    if (rc || !source->options.vm)
        return rc;
    source->write_back_running = !pthread_create(&source->write_back, NULL, write_back_main, source);
    return source->write_back_running ? 0 : drafter_error_set(err, EAGAIN, "cannot start a thread");
}

int source_begin_pass(struct source *source, struct drafter_error *err)
{
    uint32_t generation = source->pass + 1; /* only this thread changes it */
    uint64_t pages;
    int rc;

    source_await_write_back(source);
    rc = generation == 1 ? begin_first_pass(source, err)
         : generation == 2 ? 0 /* its pages were written back during the first pass */
                           : sync_devices(source, err);
    if (rc)
        return rc;
    source->pass_started = drafter_now_ns();
    source->pass_sent_before = sent_bytes(source);
    pthread_mutex_lock(&source->session.lock);
    source->pass = generation;
    pthread_cond_broadcast(&source->session.changed); /* the peer may have asked for pages */
    if (generation > 1)
        collect(source, generation);
    schedule_sort(&source->schedule, SCHEDULE_COLDEST_FIRST);
    pages = schedule_left(&source->schedule);
    pthread_mutex_unlock(&source->session.lock);
    log_debug("source", "pass %u: %llu pages to send", generation, (unsigned long long)pages);
    if (!announce_all(source, generation))
        source_allow_sending(source);
    return 0;
}

int source_drain(struct source *source)
{
    source->mark++;
    for (unsigned i = 0; i < source->session.bulk_count; i++) {
        int rc = stream_send_signal(source->session.bulk[i], WIRE_MARK, source->mark);

        if (rc) {
            session_link_lost(&source->session, source->session.bulk[i], rc);
            return rc;
        }
    }
    return 0;
}

/* Pages of a device that the next pass would send. */
static int count_left(struct source_device *device, uint64_t *scratch, uint64_t *ret_pages,
                      struct drafter_error *err)
{
    const struct block_device *block = device->block;
    size_t words = bitmap_words(block->map.pages);

    for (size_t word = 0; word < words; word++)
        scratch[word] = __atomic_load_n(&block->map.dirty[word], __ATOMIC_RELAXED);
    if (block->exposure && exposure_dirty(block->exposure, scratch, block->map.pages, err))
        return drafter_error_wrap(err, "device %s: cannot list its dirty pages", block->name);
    *ret_pages = bitmap_count(scratch, block->map.pages);
    return 0;
}

bool source_judge(struct source *source, struct drafter_error *err)
{
    struct converge_pass pass = {.sent_bytes = sent_bytes(source) - source->pass_sent_before,
                                 .duration_ns = drafter_now_ns() - source->pass_started};
    bool limits = false, ready = true, enough;

    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        cleanup_free uint64_t *scratch = bitmap_new(device->block->map.pages);
        uint64_t pages = 0;

        if (!scratch)
            drafter_error_set(err, ENOMEM, "out of memory");
        if (!scratch || count_left(device, scratch, &pages, err))
            return false;
        pass.left_bytes += pages << DRAFTER_PAGE_SHIFT;
        if (!device->limits.limits.set)
            continue;
        limits = true;
        ready &= converge_device_ready(&device->limits, (pages << DRAFTER_PAGE_SHIFT) /
                                                            device->block->block_size);
    }
    if (pass.duration_ns)
        source->dirty_bytes_per_s =
            (uint64_t)((double)pass.left_bytes * 1e9 / (double)pass.duration_ns);
    enough = converge_judge(&source->options.converge, &pass);
    source->quiet = pass.left_bytes <= QUIET_BYTES;
    log_debug("source", "pass %u: %llu bytes in %.1f ms, %llu bytes dirty, predicted %.1f ms",
              source->pass, (unsigned long long)pass.sent_bytes, (double)pass.duration_ns / 1e6,
              (unsigned long long)pass.left_bytes,
              (double)source->options.converge.predicted_ns / 1e6);
    return limits ? ready : enough;
}

/* The pages that only the VMM's cache has in their newest version. */
static int list_cached(struct source *source, struct drafter_error *err)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        struct block_device *block = device->block;

        if (!block->exposure)
            continue;
        if (exposure_dirty(block->exposure, device->cached, block->map.pages, err))
            return drafter_error_wrap(err, "device %s: cannot list its dirty pages", block->name);
    }
    return 0;
}

struct finder {
    struct source *source;
    struct drafter_error error;
    int rc;
};

static void *find_dirty_main(void *opaque)
{
    struct finder *finder = opaque;

    finder->rc = finder->source->quiet ? sync_devices(finder->source, &finder->error)
                                       : list_cached(finder->source, &finder->error);
    return NULL;
}

static int allocate_final(struct source *source, struct drafter_error *err)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];

        if (!device->delta)
            device->delta = bitmap_new(device->block->map.pages);
        if (!device->cached)
            device->cached = bitmap_new(device->block->map.pages);
        if (!device->final)
            device->final = bitmap_new(device->block->map.pages);
        if (!device->delta || !device->cached || !device->final)
            return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

/* Pauses, saves the state and finds what is dirty at the same time. */
static int pause_and_save(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;
    struct finder finder = {.source = source};
    pthread_t thread;
    int rc = vm->pause(vm->opaque, err);

    source->paused_at = drafter_now_ns();
    source->suspended = true;
    if (!rc)
        rc = source_guard_start(source, err);
    if (!rc && failpoint(FAILPOINT_PAUSED))
        rc = drafter_error_set(err, EIO, "a failpoint");
    if (rc)
        return rc;
    if (pthread_create(&thread, NULL, find_dirty_main, &finder))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    rc = vm->save(vm->opaque, err);
    pthread_join(thread, NULL);
    if (!rc && failpoint(FAILPOINT_SAVED))
        rc = drafter_error_set(err, EIO, "a failpoint");
    if (!rc && finder.rc) {
        rc = finder.rc;
        *err = finder.error;
    }
    return rc;
}

/* Storage's version is the peer's where it was sent and nothing was written since. */
static void choose_deltas(struct source *source, uint32_t pass)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        const uint64_t *written = source->schedule.devices[i].todo;

        for (size_t word = 0; word < bitmap_words(device->block->map.pages); word++)
            device->delta[word] = device->cached[word] & ~written[word];
        schedule_add_pages(&source->schedule, i, device->cached);
        memcpy(device->final, written, bitmap_words(device->block->map.pages) * sizeof(*written));
        note_announced(device, &source->schedule.devices[i], pass);
    }
}

static bool take_early(struct source *source, unsigned index, struct schedule_run *ret_run)
{
    struct schedule_device *scheduled = &source->schedule.devices[index];
    uint64_t page, end;

    lock_scope(&source->session.lock);
    page = bitmap_next_set(scheduled->todo, 0, scheduled->pages);
    if (page >= scheduled->pages)
        return false;
    end = bitmap_next_clear(scheduled->todo, page, scheduled->pages);
    if (end - page > BLOCK_RUN_MAX)
        end = page + BLOCK_RUN_MAX;
    schedule_remove(&source->schedule, index, page, end - page);
    *ret_run = (struct schedule_run){index, page, (unsigned)(end - page)};
    return true;
}

/* The VMM at the peer loads from these devices: their pages travel ahead of COMMIT. */
static int send_early(struct source *source, uint32_t generation)
{
    struct source_sender sender;
    int rc = source_sender_init(&sender, source, source->session.control);

    for (unsigned i = 0; !rc && i < source->device_count; i++) {
        struct schedule_run run;

        while (!rc && source->devices[i].early && take_early(source, i, &run))
            rc = source_send_run(source, &sender, source->session.control, &run, generation);
    }
    source_sender_release(&sender);
    return rc;
}

/* No writer of the maps is left: what is dirty now is all that will ever differ. */
static uint32_t freeze(struct source *source)
{
    uint32_t generation;

    lock_scope(&source->session.lock);
    generation = ++source->pass;
    collect(source, generation);
    choose_deltas(source, generation);
    return generation;
}

int source_load_custom(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;

    source->custom_length = 0;
    if (!vm->custom)
        return 0;
    if (!source->custom)
        source->custom = malloc(WIRE_CUSTOM_MAX);
    if (!source->custom)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return vm->custom(vm->opaque, source->custom, WIRE_CUSTOM_MAX, &source->custom_length, err);
}

int source_suspend(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;
    uint32_t generation;
    int rc = allocate_final(source, err);

    source_await_write_back(source);
    if (!rc && vm->foresee)
        vm->foresee(vm->opaque);
    if (!rc && failpoint(FAILPOINT_HOOK))
        rc = drafter_error_set(err, EIO, "a failpoint");
    if (!rc)
        rc = vm->before_suspend ? vm->before_suspend(vm->opaque, err) : 0;
    if (!rc)
        rc = source_load_custom(source, err);
    if (!rc && source->quiet)
        rc = sync_devices(source, err);
    if (!rc && !source->quiet)
        source_place_probes(source);
    if (!rc)
        rc = pause_and_save(source, err);
    if (rc)
        return rc;
    for (unsigned i = 0; i < source->device_count; i++) {
        int code = __atomic_load_n(&source->devices[i].block->io_error, __ATOMIC_RELAXED);

        if (code)
            return drafter_error_errno(err, code, "device %s: its storage failed; it stays here",
                                       source->devices[i].block->name);
    }
    generation = freeze(source);
    rc = announce_all(source, generation);
    if (!rc)
        rc = send_early(source, generation);
    if (!rc)
        rc = failpoint(FAILPOINT_ANNOUNCED);
    pthread_mutex_lock(&source->session.lock);
    source_prefer_recent(source);
    schedule_sort(&source->schedule, SCHEDULE_SMALLEST_FIRST);
    pthread_mutex_unlock(&source->session.lock);
    return rc ? drafter_error_set(err, -rc, "%s: %s", source->session.control->peer,
                                  stream_error_text(rc))
              : 0;
}
