/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/pageset.h"

#include "util/bitmap.h"
#include "util/leb128.h"

#define NUMBER_BITS 63
#define NUMBER_MAX 10 /* bytes of a 64-bit LEB128 number */

size_t pageset_encode(const uint64_t *bitmap, uint64_t pages, uint64_t *cursor, void *buffer,
                      size_t capacity)
{
    unsigned char *out = buffer;
    size_t used = 0;
    uint64_t previous = 0, first = bitmap_next_set(bitmap, *cursor, pages);

    while (first < pages && capacity - used >= 2 * NUMBER_MAX) {
        uint64_t end = bitmap_next_clear(bitmap, first, pages);

        used += leb128_put(out + used, first - previous);
        used += leb128_put(out + used, end - first);
        previous = end;
        first = bitmap_next_set(bitmap, end, pages);
    }
    *cursor = first;
    return used;
}

static int walk(const void *data, size_t length, uint64_t pages,
                void (*visit)(void *opaque, uint64_t first, uint64_t count), void *opaque)
{
    const unsigned char *at = data, *end = at + length;
    uint64_t page = 0, skip, count;

    while (at < end) {
        if (leb128_get(&at, end, NUMBER_BITS, &skip) ||
            leb128_get(&at, end, NUMBER_BITS, &count) || !count ||
            skip > pages - page || count > pages - page - skip)
            return -EPROTO;
        if (visit)
            visit(opaque, page + skip, count);
        page += skip + count;
    }
    return 0;
}

int pageset_decode(const void *data, size_t length, uint64_t pages,
                   void (*visit)(void *opaque, uint64_t first, uint64_t count), void *opaque)
{
    int rc = walk(data, length, pages, NULL, NULL);

    return rc ? rc : walk(data, length, pages, visit, opaque);
}
