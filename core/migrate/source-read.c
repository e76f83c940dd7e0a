/* SPDX-License-Identifier: BSD-2-Clause */
/* What the peer says: control frames become events, NEED is answered at once on its own stream. */
#include "migrate/pageset.h"
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <string.h>

static int on_accept(struct source *source, const char *text, size_t length)
{
    struct acceptance acceptance = {0};
    struct drafter_error error = {0};

    if (acceptance_decode(text, length, &acceptance, &error)) {
        session_post_error(&source->session, EVENT_FAILED, &error);
        return -EPROTO;
    }
    lock_scope(&source->session.lock);
    if (source->streams_wanted) /* the threads of what was accepted run already */
        return -EPROTO;
    source->streams_wanted = acceptance.bulk_streams;
    pthread_cond_broadcast(&source->session.changed);
    return 0;
}

static void on_refusal(struct source *source, enum machine_event event, const char *text,
                       size_t length)
{
    struct drafter_error error = {0};
    struct refusal refusal;

    refusal_decode(text, length, &refusal);
    drafter_error_set(&error, refusal.code, "%s refused at %s: %s", source->session.control->peer,
                      refusal.step, refusal.text);
    session_hear_error(&source->session, event, &error);
}

/* Hashes of blocks that the peer holds already. */
static int on_hashes(struct source *source, const struct wire_header *header, const uint8_t *payload)
{
    struct source_device *device;
    uint64_t blocks, first, count = header->length / SOURCE_HAVE_SIZE;

    if (header->device >= source->device_count || header->length % SOURCE_HAVE_SIZE)
        return -EPROTO;
    device = &source->devices[header->device];
    blocks = (device->block->size + device->block->block_size - 1) / device->block->block_size;
    first = header->offset / device->block->block_size;
    if (header->offset % device->block->block_size || first > blocks || count > blocks - first)
        return -EPROTO;
    lock_scope(&source->session.lock);
    if (!device->have)
        device->have = calloc(blocks, SOURCE_HAVE_SIZE);
    if (!device->has) /* only one of them may have failed, over a link that broke since */
        device->has = calloc(blocks, sizeof(*device->has));
    if (!device->have || !device->has)
        return -ENOMEM;
    memcpy(device->have + first * SOURCE_HAVE_SIZE, payload, header->length);
    for (uint64_t block = first; block < first + count; block++)
        device->has[block] = true;
    return 0;
}

static void add_missing(void *opaque, uint64_t first, uint64_t count)
{
    struct schedule_device *scheduled = opaque;

    bitmap_set_range(scheduled->todo, first, count);
}

/* The peer came back and says which pages it misses. */
static int on_missing(struct source *source, const struct wire_header *header, const void *payload)
{
    struct schedule_device *scheduled;
    int rc;

    if (header->device >= source->device_count)
        return -EPROTO;
    scheduled = &source->schedule.devices[header->device];
    lock_scope(&source->session.lock);
    if (!source->relinking)
        return -EPROTO;
    rc = pageset_decode(payload, header->length, scheduled->pages, add_missing, scheduled);
    scheduled->todo_count = bitmap_count(scheduled->todo, scheduled->pages);
    return rc;
}

static int on_frame(struct source *source, const struct wire_header *header, const void *payload)
{
    struct session *session = &source->session;

    switch (header->type) {
    case WIRE_ACCEPT:
        return on_accept(source, payload, header->length);
    case WIRE_READY:
        session_hear(session, EVENT_READY, 0);
        return 0;
    case WIRE_ACK:
        session_hear(session, EVENT_ACK, header->argument);
        return 0;
    case WIRE_RESUMED:
        session_hear(session, EVENT_RESUMED, header->argument);
        return 0;
    case WIRE_COMPLETE:
        session_hear(session, EVENT_COMPLETE, 0);
        return 0;
    case WIRE_REFUSED:
        if (header->argument == source->options.offer.epoch + 1)
            on_refusal(source, EVENT_REFUSED, payload, header->length);
        return 0;
    case WIRE_ABORT: /* said before COMMIT was heard: whoever says it never had the VM */
        on_refusal(source, EVENT_REFUSED, payload, header->length);
        return 0;
    case WIRE_PASS:
        return on_missing(source, header, payload);
    case WIRE_HASHES:
        return on_hashes(source, header, payload);
    case WIRE_PING:
        return stream_send_signal(session->control, WIRE_PONG, header->argument);
    case WIRE_PONG:
    case WIRE_CUSTOM: /* from this side it has no meaning yet */
        return 0;
    default:
        return -EPROTO;
    }
}

void *source_control_main(void *opaque)
{
    struct source *source = opaque;
    cleanup_free char *payload = malloc(WIRE_DATA_MAX);
    struct wire_header header;
    int rc = payload ? 0 : -ENOMEM;

    while (!rc) {
        rc = stream_receive(source->session.control, &header, payload, WIRE_DATA_MAX);
        if (!rc)
            rc = on_frame(source, &header, payload);
    }
    session_link_lost(&source->session, source->session.control, rc);
    return NULL;
}

/* What is asked for is the beginning of what the guest will want; as differences that costs nothing. */
#define NEED_DELTAS 16

/*
 * What was written before the first pass begins is not told from what was written since, so nothing is sent ahead of
 * it.  False: the link ends.
 */
static bool await_first_pass(struct source *source)
{
    struct session *session = &source->session;

    lock_scope(&session->lock);
    while (!source->pass && !session->stopping && !session->data_failed && !session->link_failed)
        pthread_cond_wait(&session->changed, &session->lock);
    return source->pass;
}

/* The asked-for pages now; the rest of their block next on a bulk stream. */
static int answer_need(struct source *source, struct source_sender *sender,
                       const struct wire_header *header)
{
    struct block_device *block;
    struct schedule_run run = {.device = header->device};
    uint64_t first = header->offset >> DRAFTER_PAGE_SHIFT, end;
    uint32_t generation;

    if (header->device >= source->device_count)
        return -EPROTO;
    block = source->devices[header->device].block;
    if (header->offset >= block->size || header->argument > block->size - header->offset)
        return -EPROTO;
    end = (header->offset + header->argument + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;
    if (!await_first_pass(source))
        return -ECANCELED;
    while (first < end) {
        int rc;

        run.first = first;
        run.count = end - first < BLOCK_RUN_MAX ? (unsigned)(end - first) : BLOCK_RUN_MAX;
        pthread_mutex_lock(&source->session.lock);
        schedule_remove(&source->schedule, run.device, run.first, run.count);
        source_extend_run(source, &run, NEED_DELTAS);
        schedule_urge(&source->schedule, run.device, run.first);
        generation = source->pass;
        pthread_mutex_unlock(&source->session.lock);
        rc = source_send_run(source, sender, source->session.demand, &run, generation);
        if (rc)
            return rc;
        first += run.count;
    }
    source_note_idle(source); /* these may have been the last ones, and no sender had any */
    return 0;
}

void *source_demand_main(void *opaque)
{
    struct source *source = opaque;
    struct source_sender sender;
    struct wire_header header;
    int rc = source_sender_init(&sender, source, source->session.demand);

    while (!rc) {
        rc = stream_receive(source->session.demand, &header, NULL, 0);
        if (!rc && header.type != WIRE_PING)
            rc = header.type == WIRE_NEED ? answer_need(source, &sender, &header) : -EPROTO;
    }
    session_link_lost(&source->session, source->session.demand, rc);
    source_sender_release(&sender);
    return NULL;
}
