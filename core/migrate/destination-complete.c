/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything arrived: make it durable and compare it with what the source read from its devices. */
#include "migrate/destination-internal.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <endian.h>

bool destination_all_present(struct destination *destination)
{
    for (unsigned i = 0; i < destination->device_count; i++)
        if (block_map_missing(&destination->devices[i].block->map))
            return false;
    return true;
}

/* Pages that no stream carries any more, such as a difference whose base was not here. */
void destination_request_missing(struct destination *destination)
{
    for (unsigned i = 0; i < destination->device_count; i++) {
        struct block_device *block = destination->devices[i].block;
        cleanup_free uint64_t *missing = bitmap_new(block->map.pages);
        uint64_t first = 0, end;

        if (!missing)
            return;
        block_map_get_missing(&block->map, missing);
        while ((first = bitmap_next_set(missing, first, block->map.pages)) < block->map.pages) {
            end = bitmap_next_clear(missing, first, block->map.pages);
            destination_need(destination, block, first, end - first);
            first = end;
        }
    }
}

/* Compares a device's pages; those that the guest overwrote before they arrived are left out. */
static int compare(struct destination *destination, unsigned index, uint64_t *same,
                   struct drafter_error *err)
{
    const struct block_device *block = destination->devices[index].block;
    const uint64_t *expected = destination->expected[index];
    uint64_t differing = 0, sample = 0;

    if (!expected)
        return drafter_error_set(err, EPROTO, "device %s: the source sent no hashes", block->name);
    for (uint64_t page = 0; page < block->map.pages; page++) {
        if (!block->map.hash[page])
            continue;
        if (block->map.hash[page] == le64toh(expected[page])) {
            ++*same;
            continue;
        }
        sample = page;
        differing++;
    }
    if (differing)
        return drafter_error_set(err, EBADMSG,
                                 "device %s: %llu pages differ from the source's, page %llu among "
                                 "them; do not trust this VM",
                                 block->name, (unsigned long long)differing,
                                 (unsigned long long)sample);
    return 0;
}

/* False: what was found to be damaged since comes again, and is to be made durable and compared, too. */
static bool end_arrival(struct destination *destination, const uint64_t *losses)
{
    for (unsigned i = 0; i < destination->device_count; i++)
        if (!block_device_end_remote(destination->devices[i].block, losses[i]))
            return false;
    return true;
}

void *destination_complete_main(void *opaque)
{
    struct destination *destination = opaque;
    struct drafter_error error = {0};
    uint64_t same = 0, pages = 0, losses[WIRE_DEVICES_MAX];
    int rc = 0;

    for (unsigned i = 0; i < destination->device_count; i++)
        losses[i] = block_map_losses(&destination->devices[i].block->map);
    for (unsigned i = 0; !rc && i < destination->device_count; i++) {
        struct block_device *block = destination->devices[i].block;

        pages += block->map.pages;
        rc = compare(destination, i, &same, &error);
        if (!rc && (rc = storage_flush(block->storage)))
            drafter_error_errno(&error, -rc, "device %s: cannot make it durable", block->name);
    }
    if (!rc && !end_arrival(destination, losses)) {
        __atomic_store_n(&destination->outdated, true, __ATOMIC_RELEASE);
        return NULL;
    }
    if (!rc)
        log_info("destination",
                 "%llu of %llu pages compared with the source's, all identical%s",
                 (unsigned long long)same, (unsigned long long)pages,
                 same < pages ? "; the guest wrote the others first" : "");
    if (rc) {
        __atomic_store_n(&destination->unproven, true, __ATOMIC_RELEASE);
        session_post_error(&destination->session, EVENT_FAILED, &error);
    } else {
        session_post(&destination->session, EVENT_COMPLETE, 0);
    }
    return NULL;
}
