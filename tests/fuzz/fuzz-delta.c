/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Differences of pages: any bytes are applied or refused within the page; and the difference
 * between the page before and after leads there again.
 */
#include "migrate/delta.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t before[PAGE], encoded[2 * PAGE];
    uint8_t *page = malloc(PAGE), *exact;
    size_t length, capacity;

    for (unsigned i = 0; i < PAGE; i++)
        before[i] = (uint8_t)(i / 7);
    memcpy(page, before, PAGE);
    delta_apply(page, data, size); /* malformed ones may have changed it: that is still a page */
    length = delta_encode(before, page, encoded, sizeof(encoded));
    assert(length <= sizeof(encoded));
    assert(length || !memcmp(before, page, PAGE));
    assert(!delta_apply(before, encoded, length));
    assert(!memcmp(before, page, PAGE));
    capacity = size ? data[0] * 16u : 0;
    exact = malloc(capacity + 1); /* a sanitizer sees a byte too many */
    for (unsigned i = 0; i < PAGE; i++)
        before[i] = (uint8_t)(i / 7);
    length = delta_encode(before, page, exact, capacity);
    assert(length == SIZE_MAX || length <= capacity);
    free(exact);
    free(page);
    return 0;
}
