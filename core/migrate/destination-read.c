/* SPDX-License-Identifier: BSD-2-Clause */
/* What the source says and sends: data goes into devices, control frames become events. */
#include "migrate/delta.h"
#include "migrate/destination-internal.h"
#include "migrate/pageset.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"

#include <endian.h>
#include <string.h>

static struct block_device *frame_device(struct destination *destination,
                                         const struct wire_header *header)
{
    return header->device < destination->device_count ? destination->devices[header->device].block
                                                      : NULL;
}

/* A range of whole pages (short only at the device's end) or -EPROTO. */
static int page_range(const struct block_device *device, uint64_t offset, uint64_t length,
                      uint64_t *ret_first, uint64_t *ret_count)
{
    if (offset % DRAFTER_PAGE_SIZE || offset >= device->size || !length ||
        length > device->size - offset ||
        (length % DRAFTER_PAGE_SIZE && offset + length != device->size))
        return -EPROTO;
    *ret_first = offset >> DRAFTER_PAGE_SHIFT;
    *ret_count = (length + DRAFTER_PAGE_SIZE - 1) >> DRAFTER_PAGE_SHIFT;
    return 0;
}

/* The deltas of a frame, by page. */
struct frame_deltas {
    struct {
        const char *data;
        size_t length;
    } pages[BLOCK_RUN_MAX];
    unsigned count;
};

static int apply_delta(void *opaque, unsigned index, void *page)
{
    const struct frame_deltas *deltas = opaque;

    return delta_apply(page, deltas->pages[index].data, deltas->pages[index].length);
}

/* A frame is deltas of consecutive pages, each behind u16 index and u16 length. */
static int split_deltas(const char *payload, size_t length, struct frame_deltas *deltas)
{
    size_t at = 0;

    deltas->count = 0;
    while (at < length) {
        uint16_t head[2];

        if (length - at < sizeof(head) || deltas->count == BLOCK_RUN_MAX)
            return -EPROTO;
        memcpy(head, payload + at, sizeof(head));
        at += sizeof(head);
        if (le16toh(head[0]) != deltas->count || le16toh(head[1]) > length - at)
            return -EPROTO;
        deltas->pages[deltas->count].data = payload + at;
        deltas->pages[deltas->count++].length = le16toh(head[1]);
        at += le16toh(head[1]);
    }
    return deltas->count ? 0 : -EPROTO;
}

static int on_delta(struct block_device *device, const struct wire_header *header,
                    const char *payload)
{
    cleanup_free char *scratch = NULL;
    struct frame_deltas deltas;
    int rc = split_deltas(payload, header->length, &deltas);

    if (rc || header->offset % DRAFTER_PAGE_SIZE || header->argument > UINT32_MAX)
        return -EPROTO;
    scratch = malloc((size_t)deltas.count << DRAFTER_PAGE_SHIFT);
    if (!scratch)
        return -ENOMEM;
    rc = block_device_store_deltas(device, header->offset >> DRAFTER_PAGE_SHIFT, deltas.count,
                                   header->generation, (uint32_t)header->argument, apply_delta,
                                   &deltas, scratch);
    return rc == -EINVAL ? -EPROTO : rc;
}

static int on_data(struct destination *destination, const struct wire_header *header,
                   const void *payload)
{
    struct block_device *device = frame_device(destination, header);
    uint64_t first, count;

    if (!destination->device_count) /* it is here only to say that it refuses */
        return 0;
    if (!device || !header->generation || header->generation == BLOCK_GENERATION_LOCAL)
        return -EPROTO;
    if (header->type == WIRE_DELTA)
        return on_delta(device, header, payload);
    if (page_range(device, header->offset,
                   header->type == WIRE_DATA ? header->length : header->argument, &first, &count))
        return -EPROTO;
    if (header->type == WIRE_ZERO)
        return block_device_store_zero(device, first, count, header->generation);
    /* What was here when the hashes were told, a dead process knew: the page is asked for. */
    if (header->type == WIRE_HAVE && destination->options.adopt)
        return 0;
    if (header->type == WIRE_HAVE)
        return block_device_store_have(device, first, count, header->generation);
    return block_device_store(device, first, (unsigned)count, header->generation, payload,
                              header->length);
}

/* The mark arrived on one bulk stream; on the last one everything before it is stored: say so. */
static int on_mark(struct destination *destination, uint64_t mark)
{
    struct session *session = &destination->session;
    bool all;

    pthread_mutex_lock(&session->lock);
    if (mark != destination->mark) {
        destination->mark = mark;
        destination->marks = 0;
    }
    all = ++destination->marks == session->bulk_count;
    pthread_mutex_unlock(&session->lock);
    return all ? stream_send_signal(session->control, WIRE_ACK, mark) : 0;
}

struct announcement {
    struct block_device *device;
    uint32_t generation;
};

static void announce_run(void *opaque, uint64_t first, uint64_t count)
{
    const struct announcement *announcement = opaque;

    block_map_announce(&announcement->device->map, first, count, announcement->generation);
}

int destination_on_pass(struct destination *destination, const struct wire_header *header,
                        const void *payload)
{
    struct announcement announcement = {frame_device(destination, header), header->generation};

    if (!destination->device_count)
        return 0;
    if (!announcement.device || !header->generation ||
        header->generation == BLOCK_GENERATION_LOCAL)
        return -EPROTO;
    if (failpoint(header->generation == 1 ? FAILPOINT_BULK : FAILPOINT_CYCLE))
        return -EIO;
    return pageset_decode(payload, header->length, announcement.device->map.pages, announce_run,
                          &announcement);
}

static int on_hashes(struct destination *destination, const struct wire_header *header,
                     const void *payload)
{
    struct block_device *device = frame_device(destination, header);
    uint64_t first = header->offset >> DRAFTER_PAGE_SHIFT, count = header->length / sizeof(uint64_t);

    if (!destination->device_count)
        return 0;
    if (!device || header->offset % DRAFTER_PAGE_SIZE || header->length % sizeof(uint64_t) ||
        first > device->map.pages || count > device->map.pages - first)
        return -EPROTO;
    if (!destination->expected[header->device])
        destination->expected[header->device] = calloc(device->map.pages, sizeof(uint64_t));
    if (!destination->expected[header->device])
        return -ENOMEM;
    memcpy(destination->expected[header->device] + first, payload, header->length);
    return 0;
}

static void on_abort(struct destination *destination, const char *text, size_t length)
{
    struct drafter_error error = {0};
    struct refusal refusal;

    refusal_decode(text, length, &refusal);
    drafter_error_set(&error, refusal.code, "%s gave up while %s: %s",
                      destination->session.control->peer, refusal.step, refusal.text);
    session_hear_error(&destination->session, EVENT_ENDED, &error);
}

/* What comes along with the VM; the last one ahead of COMMIT counts. */
static int on_custom(struct destination *destination, const void *payload, size_t length)
{
    lock_scope(&destination->session.lock);
    if (destination->custom_final || !destination->device_count)
        return 0;
    free(steal(&destination->custom));
    destination->custom_length = 0;
    destination->custom = length ? malloc(length) : NULL;
    if (length && !destination->custom)
        return -ENOMEM;
    if (length)
        memcpy(destination->custom, payload, length);
    destination->custom_length = length;
    return 0;
}

/* Of another session than this one, or of a source that does not know its own epoch. */
static int on_commit(struct destination *destination, uint64_t epoch)
{
    if (epoch == destination->offer.epoch + 1) {
        pthread_mutex_lock(&destination->session.lock);
        destination->custom_final = true;
        pthread_mutex_unlock(&destination->session.lock);
        session_hear(&destination->session, EVENT_COMMIT, epoch);
        return 0;
    }
    log_warning("destination", "VM %s: a COMMIT of epoch %llu was refused, epoch %llu was offered",
                destination->offer.vm, (unsigned long long)epoch,
                (unsigned long long)destination->offer.epoch);
    return -EPROTO;
}

static int on_signal(struct destination *destination, const struct wire_header *header)
{
    struct session *session = &destination->session;

    switch (header->type) {
    case WIRE_COMMIT:
        return on_commit(destination, header->argument);
    case WIRE_SENT:
        pthread_mutex_lock(&session->lock);
        destination->sent = true;
        pthread_mutex_unlock(&session->lock);
        session_hear(session, EVENT_SENT, 0);
        return 0;
    case WIRE_DONE:
        session_hear(session, EVENT_DONE, 0);
        return 0;
    case WIRE_PING:
        return stream_send_signal(session->control, WIRE_PONG, header->argument);
    case WIRE_PONG:
        return 0;
    default:
        return -EPROTO;
    }
}

static int on_control(struct destination *destination, const struct wire_header *header,
                      const void *payload)
{
    if (header->type >= WIRE_DATA && header->type <= WIRE_DELTA)
        return on_data(destination, header, payload);
    switch (header->type) {
    case WIRE_PASS:
        return destination_on_pass(destination, header, payload);
    case WIRE_HASHES:
        return on_hashes(destination, header, payload);
    case WIRE_CUSTOM:
        return on_custom(destination, payload, header->length);
    case WIRE_ABORT:
        on_abort(destination, payload, header->length);
        return 0;
    default:
        return on_signal(destination, header);
    }
}

static int on_stream(struct destination *destination, const struct wire_header *header,
                     const void *payload)
{
    if (header->type == WIRE_MARK)
        return on_mark(destination, header->argument);
    if (header->type == WIRE_PING)
        return 0;
    return header->type >= WIRE_DATA && header->type <= WIRE_DELTA
               ? on_data(destination, header, payload)
               : -EPROTO;
}

/*
 * Did what we keep the frame in fail, rather than the link?  MARK and PING are kept nowhere but answered,
 * and a link can fail with the errno of a disk.
 */
static bool is_local_failure(const struct wire_header *header, int rc)
{
    if (header->type == WIRE_MARK || header->type == WIRE_PING)
        return false;
    return rc == -ENOSPC || rc == -EIO || rc == -EDQUOT || rc == -EROFS || rc == -ENOMEM;
}

static void receive_all(struct destination *destination, struct stream *stream,
                        int (*handle)(struct destination *, const struct wire_header *,
                                      const void *))
{
    cleanup_free char *payload = malloc(WIRE_PAYLOAD_MAX);
    struct drafter_error error = {0};
    struct wire_header header;
    int rc = payload ? 0 : -ENOMEM;

    while (!rc) {
        rc = stream_receive(stream, &header, payload, WIRE_PAYLOAD_MAX);
        if (rc)
            break;
        rc = handle(destination, &header, payload);
        if (is_local_failure(&header, rc)) {
            drafter_error_errno(&error, -rc, "cannot store device %u at offset %llu here",
                                header.device, (unsigned long long)header.offset);
            session_post_error(&destination->session, EVENT_FAILED, &error);
        }
    }
    session_link_lost(&destination->session, stream, rc);
}

/* Whoever waits for a missing page gets the errno; 0 lets them wait again. */
void destination_fail_waits(struct destination *destination, int code)
{
    for (unsigned i = 0; i < destination->device_count; i++)
        block_map_fail(&destination->devices[i].block->map, code);
}

/* Under the lock that ends the load: a moment later the failure would meet the guest, and last. */
static void fail_load(struct destination *destination)
{
    lock_scope(&destination->session.lock);
    if (destination->loading)
        destination_fail_waits(destination, EIO);
}

void *destination_control_main(void *opaque)
{
    struct destination *destination = opaque;

    receive_all(destination, destination->session.control, on_control);
    fail_load(destination);
    return NULL;
}

void *destination_stream_main(void *opaque)
{
    struct destination_reader *reader = opaque;

    receive_all(reader->destination, reader->stream, on_stream);
    return NULL;
}
