/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/delta.h"

#include "util/leb128.h"

#include <string.h>

/* Runs of fewer equal bytes than this are not worth the two numbers that would describe them. */
#define GAP_MIN 8
#define NUMBER_BITS 21 /* of a number on the wire; a page has 13 */

static size_t equal_run(const unsigned char *a, const unsigned char *b, size_t length)
{
    size_t n = 0;

    while (n + 8 <= length) {
        uint64_t x, y;

        memcpy(&x, a + n, 8);
        memcpy(&y, b + n, 8);
        if (x != y)
            return n + (unsigned)__builtin_ctzll(x ^ y) / 8;
        n += 8;
    }
    while (n < length && a[n] == b[n])
        n++;
    return n;
}

/* How far a change reaches: to the next GAP_MIN equal bytes. */
static size_t changed_run(const unsigned char *a, const unsigned char *b, size_t length)
{
    size_t n = 0;

    while (n < length) {
        size_t equal = equal_run(a + n, b + n, length - n);

        if (equal >= GAP_MIN || n + equal == length)
            break;
        n += equal;
        while (n < length && a[n] != b[n])
            n++;
    }
    return n;
}

size_t delta_encode(const void *before, const void *after, void *buffer, size_t capacity)
{
    const unsigned char *a = before, *b = after;
    unsigned char *out = buffer;
    size_t at = 0, used = 0;

    while (at < DRAFTER_PAGE_SIZE) {
        size_t same = equal_run(a + at, b + at, DRAFTER_PAGE_SIZE - at), changed;

        if (at + same == DRAFTER_PAGE_SIZE)
            break;
        changed = changed_run(a + at + same, b + at + same, DRAFTER_PAGE_SIZE - at - same);
        if (used + 4 + changed > capacity)
            return SIZE_MAX;
        used += leb128_put(out + used, same);
        used += leb128_put(out + used, changed);
        memcpy(out + used, b + at + same, changed);
        used += changed;
        at += same + changed;
    }
    return used;
}

int delta_apply(void *page, const void *delta, size_t length)
{
    const unsigned char *at = delta, *end = at + length;
    uint64_t same, changed;
    size_t offset = 0;

    while (at < end) {
        if (leb128_get(&at, end, NUMBER_BITS, &same) ||
            leb128_get(&at, end, NUMBER_BITS, &changed) || !changed ||
            same > DRAFTER_PAGE_SIZE - offset || changed > DRAFTER_PAGE_SIZE - offset - same ||
            changed > (uint64_t)(end - at))
            return -EPROTO;
        offset += same;
        memcpy((char *)page + offset, at, changed);
        offset += changed;
        at += changed;
    }
    return 0;
}
