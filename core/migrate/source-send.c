/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending runs of pages: each run becomes frames of zero pages, pages the peer has, differences, and
 * whole pages.  A sender thread per bulk stream takes runs from the schedule.
 */
#include "migrate/delta.h"
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <sodium.h>
#include <string.h>

/* A difference longer than this is sent as a whole page. */
#define DELTA_MAX (DRAFTER_PAGE_SIZE / 2)
/* Differences are short: they travel in longer runs than whole pages, which would keep others waiting. */
#define DELTA_RUN_MAX 128
#define DELTA_HEADER 4 /* u16 page within the frame, u16 length */

enum page_kind { PAGE_DATA, PAGE_ZERO, PAGE_DELTA };

/* The newest content: the VMM's cache where that alone has it, else storage. */
int source_fetch(struct source *source, unsigned index, void *buffer, uint64_t first,
                 unsigned count)
{
    struct source_device *device = &source->devices[index];
    size_t length = block_device_run_length(device->block, first, count);

    if (device->cached && bitmap_next_set(device->cached, first, first + count) < first + count)
        return block_device_fetch_seen(device->block, buffer, length, first << DRAFTER_PAGE_SHIFT);
    return block_device_fetch(device->block, buffer, length, first << DRAFTER_PAGE_SHIFT);
}

static struct wire_header data_header(unsigned type, unsigned device, uint64_t first,
                                      uint32_t generation)
{
    return (struct wire_header){.type = (uint16_t)type,
                                .device = (uint16_t)device,
                                .generation = generation,
                                .offset = first << DRAFTER_PAGE_SHIFT};
}

static int send_range(struct stream *stream, unsigned type, unsigned device, uint64_t first,
                      size_t length, uint32_t generation)
{
    struct wire_header header = data_header(type, device, first, generation);

    header.argument = length;
    return stream_send(stream, header, NULL);
}

/*
 * Takes the hash that the peer told of the block at the run's beginning.  Of none of the run's blocks it is known any
 * more what the peer holds, as what is sent now may or may not arrive.
 */
static bool take_have(struct source_device *device, const struct schedule_run *run,
                      uint8_t ret_hash[SOURCE_HAVE_SIZE])
{
    uint64_t pages = device->block->block_size >> DRAFTER_PAGE_SHIFT, block = run->first / pages;
    bool known = device->has[block];

    memcpy(ret_hash, device->have + block * SOURCE_HAVE_SIZE, SOURCE_HAVE_SIZE);
    for (; block * pages < run->first + run->count; block++)
        device->has[block] = false;
    return known;
}

/* Does the peer hold this block with the same content? */
static bool peer_has(struct source *source, const struct schedule_run *run, const void *data,
                     size_t length)
{
    struct source_device *device = &source->devices[run->device];
    uint64_t pages = device->block->block_size >> DRAFTER_PAGE_SHIFT;
    uint64_t end = (run->first / pages + 1) * pages;
    uint8_t theirs[SOURCE_HAVE_SIZE], ours[SOURCE_HAVE_SIZE];
    bool known;

    if (end > device->block->map.pages)
        end = device->block->map.pages;
    pthread_mutex_lock(&source->session.lock);
    known = device->have && device->has && take_have(device, run, theirs);
    pthread_mutex_unlock(&source->session.lock);
    if (!known || run->first % pages || run->first + run->count != end)
        return false;
    crypto_generichash(ours, sizeof(ours), data, length, NULL, 0);
    return !memcmp(ours, theirs, sizeof(ours));
}

/* The generation all pages of a run were sent in last, if it is one and a difference can be made. */
static uint32_t delta_base(struct source *source, const struct schedule_run *run, uint64_t page)
{
    struct source_device *device = &source->devices[run->device];

    if (!device->delta || !bitmap_test(device->delta, page))
        return 0;
    return __atomic_load_n(&device->sent[page], __ATOMIC_RELAXED);
}

/* Does storage still have the version that the peer holds?  Asked after reading it. */
static bool base_is_intact(const struct source_device *device, uint64_t page)
{
    uint64_t word = __atomic_load_n(&device->block->map.dirty[page / BITMAP_WORD_BITS],
                                    __ATOMIC_ACQUIRE);

    return !(word >> (page % BITMAP_WORD_BITS) & 1);
}

/*
 * Encodes the differences of as many pages from `at` on as share a base; returns how many, 0 when the
 * first one is better sent whole.
 */
static unsigned encode_deltas(struct source *source, struct source_sender *sender,
                              const struct schedule_run *run, unsigned at, uint32_t *ret_base,
                              size_t *ret_length)
{
    struct source_device *device = &source->devices[run->device];
    uint32_t base = delta_base(source, run, run->first + at);
    unsigned n = 0;
    size_t used = 0;

    for (; base && at + n < run->count; n++) {
        uint64_t page = run->first + at + n;
        char *out = sender->encoded + used;
        uint16_t head[2];
        size_t length, offset = (size_t)(at + n) << DRAFTER_PAGE_SHIFT;

        if (!sender->has_base || delta_base(source, run, page) != base ||
            (page + 1) << DRAFTER_PAGE_SHIFT > device->block->size || !base_is_intact(device, page))
            break;
        length = delta_encode(sender->base + offset, sender->buffer + offset, out + DELTA_HEADER,
                              DELTA_MAX);
        if (length == SIZE_MAX)
            break;
        head[0] = htole16((uint16_t)n);
        head[1] = htole16((uint16_t)length);
        memcpy(out, head, DELTA_HEADER);
        used += DELTA_HEADER + length;
    }
    *ret_base = base;
    *ret_length = used;
    return n;
}

static bool page_is_zero(const struct source_sender *sender, unsigned at, size_t length)
{
    size_t begin = (size_t)at << DRAFTER_PAGE_SHIFT, left = length - begin;

    return io_is_zero(sender->buffer + begin, left < DRAFTER_PAGE_SIZE ? left : DRAFTER_PAGE_SIZE);
}

static bool may_delta(struct source *source, const struct schedule_run *run, unsigned at)
{
    return delta_base(source, run, run->first + at) != 0;
}

/* Sends the pages [at, end) of the run, which are all zero or all to be sent whole. */
static int send_pages(struct source *source, struct source_sender *sender, struct stream *stream,
                      const struct schedule_run *run, unsigned at, unsigned end, bool zero,
                      uint32_t generation)
{
    struct block_device *block = source->devices[run->device].block;
    size_t length = block_device_run_length(block, run->first + at, end - at);
    struct wire_header header;

    if (zero)
        return send_range(stream, WIRE_ZERO, run->device, run->first + at, length, generation);
    header = data_header(WIRE_DATA, run->device, run->first + at, generation);
    header.length = (uint32_t)length;
    return stream_send(stream, header, sender->buffer + ((size_t)at << DRAFTER_PAGE_SHIFT));
}

static int send_deltas(struct source *source, struct source_sender *sender, struct stream *stream,
                       const struct schedule_run *run, unsigned *at, uint32_t generation)
{
    uint32_t base;
    size_t length;
    unsigned n = encode_deltas(source, sender, run, *at, &base, &length);
    struct wire_header header = data_header(WIRE_DELTA, run->device, run->first + *at, generation);

    if (!n) /* this one page whole */
        return send_pages(source, sender, stream, run, *at, *at + 1, false, generation) ?: (++*at, 0);
    header.argument = base;
    header.length = (uint32_t)length;
    *at += n;
    return stream_send(stream, header, sender->encoded);
}

static int send_content(struct source *source, struct source_sender *sender, struct stream *stream,
                        const struct schedule_run *run, size_t length, uint32_t generation)
{
    unsigned at = 0, end;
    int rc = 0;

    while (!rc && at < run->count) {
        bool zero = page_is_zero(sender, at, length);

        if (!zero && may_delta(source, run, at)) {
            rc = send_deltas(source, sender, stream, run, &at, generation);
            continue;
        }
        for (end = at + 1; end < run->count && page_is_zero(sender, end, length) == zero &&
                           (zero || !may_delta(source, run, end));
             end++)
            ;
        rc = send_pages(source, sender, stream, run, at, end, zero, generation);
        at = end;
    }
    return rc;
}

/* Reads what differences are made against. */
static void fetch_base(struct source *source, struct source_sender *sender,
                       const struct schedule_run *run, size_t length)
{
    const struct source_device *device = &source->devices[run->device];
    uint64_t end = run->first + run->count;

    sender->has_base = device->delta && bitmap_next_set(device->delta, run->first, end) < end &&
                       !block_device_fetch(device->block, sender->base, length,
                                           run->first << DRAFTER_PAGE_SHIFT);
}

/* A difference is sent once: who asks for its page again could not use it, and gets it whole. */
static void remember_sent(struct source *source, const struct schedule_run *run, uint32_t generation)
{
    struct source_device *device = &source->devices[run->device];

    for (unsigned i = 0; i < run->count; i++) {
        uint64_t page = run->first + i;
        bool differs = device->delta && bitmap_test(device->delta, page);

        __atomic_store_n(&device->sent[page], differs ? 0 : generation, __ATOMIC_RELAXED);
    }
}

/*
 * Since the hand-over nobody but us has what the peer misses.  What cannot be read may be readable later, and is no
 * reason to keep all the rest from it: the guest waits for these pages only, and only if it wants them.
 */
static bool put_off(struct source *source, const struct schedule_run *run)
{
    struct source_device *device = &source->devices[run->device];
    lock_scope(&source->session.lock);

    if (!source->given)
        return false;
    if (!device->unread)
        device->unread = bitmap_new(device->block->map.pages);
    if (!device->unread)
        return false;
    if (!source->unread)
        source->unread_at = drafter_now_ns() + SOURCE_RETRY_NS;
    for (unsigned i = 0; i < run->count; i++) {
        source->unread += !bitmap_test(device->unread, run->first + i);
        bitmap_set_range(device->unread, run->first + i, 1);
    }
    return true;
}

static int fetch_failed(struct source *source, const struct schedule_run *run, int rc)
{
    struct drafter_error error = {0};

    if (put_off(source, run))
        return 0;

    drafter_error_errno(&error, -rc, "device %s: cannot read page %llu for sending",
                        source->devices[run->device].block->name, (unsigned long long)run->first);
    session_post_error(&source->session, EVENT_FAILED, &error);
    return rc;
}

/* One of the pages cannot be read, perhaps: then the others go. */
static int send_singly(struct source *source, struct source_sender *sender, struct stream *stream,
                       const struct schedule_run *run, uint32_t generation)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < run->count; i++)
        rc = source_send_run(source, sender, stream,
                             &(struct schedule_run){run->device, run->first + i, 1}, generation);
    return rc;
}

int source_send_run(struct source *source, struct source_sender *sender, struct stream *stream,
                    const struct schedule_run *run, uint32_t generation)
{
    struct block_device *block = source->devices[run->device].block;
    size_t length = block_device_run_length(block, run->first, run->count);
    int rc = source_fetch(source, run->device, sender->buffer, run->first, run->count);

    if (rc && run->count > 1 && source_is_given(source))
        return send_singly(source, sender, stream, run, generation);
    if (rc)
        return fetch_failed(source, run, rc);
    fetch_base(source, sender, run, length);
    if (peer_has(source, run, sender->buffer, length))
        rc = send_range(stream, WIRE_HAVE, run->device, run->first, length, generation);
    else
        rc = send_content(source, sender, stream, run, length, generation);
    if (rc)
        session_link_lost(&source->session, stream, rc);
    else
        remember_sent(source, run, generation);
    return rc;
}

void source_extend_run(struct source *source, struct schedule_run *run, unsigned count)
{
    const uint64_t *delta = source->devices[run->device].delta;

    if (delta && bitmap_test(delta, run->first + run->count - 1))
        schedule_extend(&source->schedule, run, delta, count);
}

/* Waits for something to send; false: the session ends. */
static bool next_run(struct source *source, struct schedule_run *ret_run, uint32_t *ret_generation)
{
    struct session *session = &source->session;

    lock_scope(&session->lock);
    while (!session->stopping && !session->data_failed && !session->link_failed &&
           !(source->sending && schedule_take(&source->schedule, ret_run)))
        pthread_cond_wait(&session->changed, &session->lock);
    if (session->stopping || session->data_failed || session->link_failed)
        return false;
    source_extend_run(source, ret_run, DELTA_RUN_MAX);
    source->inflight++;
    *ret_generation = source->pass;
    return true;
}

void source_note_idle(struct source *source)
{
    bool pass_sent;

    pthread_mutex_lock(&source->session.lock);
    pass_sent = source->sending && !source->inflight && !source->unread && !schedule_left(&source->schedule);
    if (pass_sent)
        source->sending = false;
    pthread_mutex_unlock(&source->session.lock);
    if (pass_sent)
        session_post(&source->session, EVENT_PASS_SENT, 0);
}

bool source_is_given(struct source *source)
{
    lock_scope(&source->session.lock);
    return source->given;
}

void source_forget_unread(struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        struct source_device *device = &source->devices[i];

        if (device->unread)
            memset(device->unread, 0, bitmap_words(device->block->map.pages) * sizeof(*device->unread));
    }
    source->unread = 0;
}

/* Where the first of them is, for people. */
static void say_unread(const struct source *source)
{
    for (unsigned i = 0; i < source->device_count; i++) {
        const struct source_device *device = &source->devices[i];
        uint64_t pages = device->block->map.pages;
        uint64_t page = device->unread ? bitmap_next_set(device->unread, 0, pages) : pages;

        if (page < pages)
            log_warning("source", "VM %s: device %s: %llu pages of the VM cannot be read, the first is %llu; "
                        "all others are sent, and these are tried again until the disk gives them",
                        source->options.offer.vm, device->block->name,
                        (unsigned long long)bitmap_count(device->unread, pages), (unsigned long long)page);
    }
}

void source_retry_unread(struct source *source)
{
    uint64_t now = drafter_now_ns();
    lock_scope(&source->session.lock);

    if (!source->unread || now < source->unread_at)
        return;
    if (source->unread != source->unread_told)
        say_unread(source);
    source->unread_told = source->unread;
    for (unsigned i = 0; i < source->device_count; i++)
        if (source->devices[i].unread)
            schedule_add_pages(&source->schedule, i, source->devices[i].unread);
    source_forget_unread(source);
    schedule_sort(&source->schedule, SCHEDULE_SMALLEST_FIRST);
    source->sending = true;
    pthread_cond_broadcast(&source->session.changed);
}

static void run_done(struct source *source)
{
    pthread_mutex_lock(&source->session.lock);
    source->inflight--;
    pthread_mutex_unlock(&source->session.lock);
    source_note_idle(source);
}

static void *sender_main(void *opaque)
{
    struct source_sender *sender = opaque;
    struct schedule_run run;
    uint32_t generation;
    int rc = 0;

    while (!rc && next_run(sender->source, &run, &generation)) {
        rc = source_send_run(sender->source, sender, sender->stream, &run, generation);
        run_done(sender->source);
    }
    if (rc) /* also when it could not be read: the run is nobody's now, a new link asks for it again */
        session_link_lost(&sender->source->session, sender->stream, rc);
    return NULL;
}

int source_sender_init(struct source_sender *sender, struct source *source, struct stream *stream)
{
    *sender = (struct source_sender){.source = source, .stream = stream};
    sender->buffer = malloc(WIRE_DATA_MAX);
    sender->base = malloc(WIRE_DATA_MAX);
    sender->encoded = malloc(BLOCK_RUN_MAX * (DELTA_HEADER + DELTA_MAX));
    return sender->buffer && sender->base && sender->encoded ? 0 : -ENOMEM;
}

void source_sender_release(struct source_sender *sender)
{
    free(sender->buffer);
    free(sender->base);
    free(sender->encoded);
}

int source_start_senders(struct source *source, struct drafter_error *err)
{
    for (unsigned i = 0; i < source->session.bulk_count; i++) {
        struct source_sender *sender = &source->senders[i];
        int rc = source_sender_init(sender, source, source->session.bulk[i]);

        if (!rc)
            rc = -pthread_create(&sender->thread, NULL, sender_main, sender);
        if (rc)
            return drafter_error_errno(err, -rc, "cannot start a sender");
        sender->running = true;
    }
    return 0;
}

void source_join_senders(struct source *source)
{
    for (unsigned i = 0; i < source->session.bulk_count; i++) {
        if (source->senders[i].running)
            pthread_join(source->senders[i].thread, NULL);
        source_sender_release(&source->senders[i]);
        source->senders[i] = (struct source_sender){0}; /* a link can end twice */
    }
}
