/* SPDX-License-Identifier: BSD-2-Clause */
/* Checksums of pages in memory; see cow-sums.h. */
#include "cow-sums.h"

#include <stdlib.h>
#include <sys/mman.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define KNOWN UINT32_C(0x80000000)
#define OVERLAPPED UINT32_C(0x40000000)
#define WRITERS (OVERLAPPED - 1)

int cow_sums_init(struct cow_sums *sums, const struct cow_geometry *geometry)
{
    size_t size = (size_t)geometry->sectors * COW_SECTOR_PAGES * sizeof(uint32_t);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0); /* costs what is used of it */

    *sums = (struct cow_sums){0};
    if (memory == MAP_FAILED)
        return -ENOMEM;
    sums->words = memory;
    sums->size = size;
    sums->heat = calloc(geometry->sectors, sizeof *sums->heat);
    if (sums->heat)
        return 0;
    cow_sums_release(sums);
    return -ENOMEM;
}

void cow_sums_release(struct cow_sums *sums)
{
    if (sums->words)
        munmap((void *)sums->words, sums->size);
    free(sums->heat);
    *sums = (struct cow_sums){0};
}

uint32_t cow_sum(const void *page, size_t length)
{
    return (uint32_t)XXH3_64bits(page, length) | KNOWN;
}

uint32_t cow_sums_begin(struct cow_sums *sums, uint64_t page)
{
    _Atomic uint32_t *word = &sums->words[page];
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed), next;

    do
        next = old & KNOWN || old == 0 ? 1 : (old + 1) | OVERLAPPED;
    while (!atomic_compare_exchange_weak(word, &old, next));
    return old & KNOWN ? old : 0;
}

void cow_sums_end(struct cow_sums *sums, uint64_t page, uint32_t sum)
{
    _Atomic uint32_t *word = &sums->words[page];
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed), next;

    do {
        if ((old & WRITERS) > 1)
            next = (old - 1) | OVERLAPPED;
        else
            next = old & OVERLAPPED ? 0 : sum;
    } while (!atomic_compare_exchange_weak(word, &old, next));
}

bool cow_sums_alone(const struct cow_sums *sums, uint64_t page)
{
    return !(atomic_load(&sums->words[page]) & OVERLAPPED);
}

uint32_t cow_sums_get(const struct cow_sums *sums, uint64_t page)
{
    uint32_t word = atomic_load(&sums->words[page]);

    return word & KNOWN ? word : 0;
}
