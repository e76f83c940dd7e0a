/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passes over what is dirty, and the last one, for which the VM is paused.
 *
 * Storage only sees what the VMM's page cache was made to write back.  A pass begins by that
 * write-back.  The last one must not: listing the pages that are dirty in the cache is quicker than
 * writing them, and as long as storage keeps the version that the peer holds, the difference of the
 * two is all that has to travel.
 */
#include "migrate/pageset.h"
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>

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
static int announce(struct source *source, unsigned index, uint32_t generation)
{
    const struct schedule_device *scheduled = &source->schedule.devices[index];
    cleanup_free char *buffer = malloc(WIRE_DATA_MAX);
    struct wire_header header = {
        .type = WIRE_PASS, .device = (uint16_t)index, .generation = generation};
    uint64_t cursor = 0;

    if (!buffer)
        return -ENOMEM;
    while (cursor < scheduled->pages) {
        int rc;

        header.length = (uint32_t)pageset_encode(scheduled->todo, scheduled->pages, &cursor, buffer,
                                                 WIRE_DATA_MAX);
        rc = header.length ? stream_send(source->session.control, header, buffer) : 0;
        if (rc)
            return rc;
    }
    return 0;
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

/* Adds what is dirty to what is to be sent; the first pass sends everything. */
static void collect(struct source *source, bool all)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct schedule_device *scheduled = &source->schedule.devices[i];

        block_map_take_dirty(&source->devices[i].block->map, scheduled->todo);
        if (all)
            schedule_add_all(&source->schedule, i);
        else
            scheduled->todo_count = bitmap_count(scheduled->todo, scheduled->pages);
    }
}

int source_begin_pass(struct source *source, struct drafter_error *err)
{
    uint32_t generation;
    int rc = sync_devices(source, err);

    if (rc)
        return rc;
    source->pass_started = drafter_now_ns();
    source->pass_sent_before = sent_bytes(source);
    pthread_mutex_lock(&source->session.lock);
    generation = ++source->pass;
    collect(source, generation == 1);
    schedule_sort(&source->schedule, SCHEDULE_COLDEST_FIRST);
    pthread_mutex_unlock(&source->session.lock);
    log_debug("source", "pass %u: %llu pages to send", generation,
              (unsigned long long)schedule_left(&source->schedule));
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
    enough = converge_judge(&source->options.converge, &pass);
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

struct lister {
    struct source *source;
    struct drafter_error error;
    int rc;
};

static void *list_cached_main(void *opaque)
{
    struct lister *lister = opaque;

    lister->rc = list_cached(lister->source, &lister->error);
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
        if (!device->delta || !device->cached)
            return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

/* Pauses, saves the state and lists dirty pages at the same time. */
static int pause_and_save(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;
    struct lister lister = {.source = source};
    pthread_t thread;
    int rc = vm->pause(vm->opaque, err);

    source->paused_at = drafter_now_ns();
    source->suspended = true;
    if (rc)
        return rc;
    if (pthread_create(&thread, NULL, list_cached_main, &lister))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    rc = vm->save(vm->opaque, err);
    pthread_join(thread, NULL);
    if (!rc && lister.rc) {
        rc = lister.rc;
        *err = lister.error;
    }
    return rc;
}

/* Storage's version is the peer's where it was sent and nothing was written since. */
static void choose_deltas(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];
        const uint64_t *written = source->schedule.devices[i].todo;

        for (size_t word = 0; word < bitmap_words(device->block->map.pages); word++)
            device->delta[word] = device->cached[word] & ~written[word];
        schedule_add_pages(&source->schedule, i, device->cached);
    }
}

/* The VMM at the peer loads from these devices: their pages travel ahead of COMMIT. */
static int send_early(struct source *source, uint32_t generation)
{
    struct source_sender sender;
    int rc = source_sender_init(&sender, source, source->session.control);

    for (unsigned i = 0; !rc && i < source->device_count; i++) {
        struct schedule_device *scheduled = &source->schedule.devices[i];
        uint64_t page;

        if (!source->devices[i].early)
            continue;
        while (!rc && (page = bitmap_next_set(scheduled->todo, 0, scheduled->pages)) <
                          scheduled->pages) {
            uint64_t end = bitmap_next_clear(scheduled->todo, page, scheduled->pages);
            struct schedule_run run = {i, page, end - page < BLOCK_RUN_MAX ? (unsigned)(end - page)
                                                                           : BLOCK_RUN_MAX};

            schedule_remove(&source->schedule, i, run.first, run.count);
            rc = source_send_run(source, &sender, source->session.control, &run, generation);
        }
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
    collect(source, false);
    choose_deltas(source);
    return generation;
}

int source_suspend(struct source *source, struct drafter_error *err)
{
    const struct source_vm *vm = source->options.vm;
    uint32_t generation;
    int rc = allocate_final(source, err);

    if (!rc)
        rc = vm->before_suspend ? vm->before_suspend(vm->opaque, err) : 0;
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
    pthread_mutex_lock(&source->session.lock);
    schedule_sort(&source->schedule, SCHEDULE_SMALLEST_FIRST);
    pthread_mutex_unlock(&source->session.lock);
    return rc ? drafter_error_set(err, -rc, "%s: %s", source->session.control->peer,
                                  stream_error_text(rc))
              : 0;
}
