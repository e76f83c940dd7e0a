/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/pageset.h"

#include "util/bitmap.h"

#define NUMBER_MAX 10 /* bytes of a 64-bit LEB128 number */

static size_t put_number(unsigned char *at, uint64_t value)
{
    size_t length = 0;

    for (; value >= 0x80; value >>= 7)
        at[length++] = (unsigned char)(value | 0x80);
    at[length++] = (unsigned char)value;
    return length;
}

static int get_number(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (*at == end)
            return -EPROTO;
        value |= (uint64_t)(**at & 0x7f) << shift;
        if (!(*(*at)++ & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return -EPROTO;
}

size_t pageset_encode(const uint64_t *bitmap, uint64_t pages, uint64_t *cursor, void *buffer,
                      size_t capacity)
{
    unsigned char *out = buffer;
    size_t used = 0;
    uint64_t previous = 0, first = bitmap_next_set(bitmap, *cursor, pages);

    while (first < pages && capacity - used >= 2 * NUMBER_MAX) {
        uint64_t end = bitmap_next_clear(bitmap, first, pages);

        used += put_number(out + used, first - previous);
        used += put_number(out + used, end - first);
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
        if (get_number(&at, end, &skip) || get_number(&at, end, &count) || !count ||
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
