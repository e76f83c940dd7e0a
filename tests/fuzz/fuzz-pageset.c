/* SPDX-License-Identifier: BSD-2-Clause */
/* Sets of pages: what is accepted lies within the device and survives a round trip. */
#include "migrate/pageset.h"
#include "util/bitmap.h"

#include <assert.h>
#include <string.h>

#define PAGES_MAX 4096

struct visit {
    uint64_t bits[PAGES_MAX / 64], pages, next;
};

static void visit(void *opaque, uint64_t first, uint64_t count)
{
    struct visit *to = opaque;

    assert(count && first >= to->next && first < to->pages && count <= to->pages - first);
    to->next = first + count;
    bitmap_set_range(to->bits, first, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct visit got = {0}, again = {0};
    uint64_t cursor = 0;
    char buffer[32];

    if (size < 2)
        return 0;
    got.pages = again.pages = 1 + (data[0] << 4 | data[1] >> 4);
    if (pageset_decode(data + 2, size - 2, got.pages, visit, &got)) {
        assert(!got.next); /* nothing was visited */
        return 0;
    }
    while (cursor < got.pages) {
        size_t used = pageset_encode(got.bits, got.pages, &cursor, buffer, sizeof(buffer));

        again.next = 0; /* pieces overlap nothing, but each counts from 0 */
        assert(!pageset_decode(buffer, used, got.pages, visit, &again));
    }
    assert(!memcmp(got.bits, again.bits, sizeof(got.bits)));
    return 0;
}
