/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything was sent.  The paused VM's devices are read once more, independently of what was sent
 * before, and their page hashes go to the peer, which compares them with what arrived.
 */
#include "migrate/source-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"

#include <endian.h>
#include <string.h>
#include <time.h>

/* What was sent and cannot be read any more may be readable again: the peer has it, and waits for the proof alone. */
static int fetch_patiently(struct source *source, unsigned index, char *buffer, uint64_t first, unsigned count)
{
    static const struct timespec pause = {.tv_nsec = 100000000};
    int rc = source_fetch(source, index, buffer, first, count);

    if (rc && source_is_given(source))
        log_warning("source", "VM %s: device %s: pages from %llu on cannot be read to prove them: %s; trying again",
                    source->options.offer.vm, source->devices[index].block->name, (unsigned long long)first,
                    strerror(-rc));
    while (rc && source_is_given(source) && !session_is_stopping(&source->session)) {
        nanosleep(&pause, NULL);
        rc = source_fetch(source, index, buffer, first, count);
    }
    return rc;
}

static int send_hashes(struct source *source, unsigned index, char *buffer, uint64_t *hashes,
                       uint64_t first, unsigned count)
{
    size_t length = block_device_run_length(source->devices[index].block, first, count);
    struct wire_header header = {.type = WIRE_HASHES,
                                 .device = (uint16_t)index,
                                 .generation = source->pass,
                                 .offset = first << DRAFTER_PAGE_SHIFT,
                                 .length = count * (uint32_t)sizeof(*hashes)};
    int rc = fetch_patiently(source, index, buffer, first, count);

    for (unsigned i = 0; !rc && i < count; i++)
        hashes[i] = htole64(block_page_hash(buffer + ((size_t)i << DRAFTER_PAGE_SHIFT),
                                            length - ((size_t)i << DRAFTER_PAGE_SHIFT)));
    if (rc)
        return rc;
    rc = stream_send(source->session.control, header, hashes);
    if (rc)
        session_link_lost(&source->session, source->session.control, rc);
    return rc;
}

static int hash_device(struct source *source, unsigned index, char *buffer, uint64_t *hashes)
{
    uint64_t pages = source->devices[index].block->map.pages;
    int rc = 0;

    for (uint64_t first = 0; !rc && first < pages; first += BLOCK_RUN_MAX) {
        unsigned count = pages - first < BLOCK_RUN_MAX ? (unsigned)(pages - first) : BLOCK_RUN_MAX;

        if (session_is_stopping(&source->session))
            return -ECANCELED;
        rc = send_hashes(source, index, buffer, hashes, first, count);
    }
    return rc;
}

void *source_finish_main(void *opaque)
{
    struct source *source = opaque;
    cleanup_free char *buffer = malloc(WIRE_DATA_MAX);
    cleanup_free uint64_t *hashes = calloc(BLOCK_RUN_MAX, sizeof(*hashes));
    struct drafter_error error = {0};
    int rc = buffer && hashes ? 0 : -ENOMEM;

    for (unsigned i = 0; !rc && i < source->device_count; i++)
        rc = hash_device(source, i, buffer, hashes);
    if (!rc)
        rc = failpoint(FAILPOINT_LAST_BLOCK);
    if (!rc)
        rc = stream_send_signal(source->session.control, WIRE_SENT, 0);
    if (!rc) {
        session_post(&source->session, EVENT_SENT, 0);
    } else {
        drafter_error_errno(&error, -rc, "cannot prove what was sent");
        session_post_error(&source->session, EVENT_FAILED, &error);
        session_link_lost(&source->session, source->session.control, rc); /* with a new one it begins anew */
    }
    return NULL;
}
