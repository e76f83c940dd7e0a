/* SPDX-License-Identifier: BSD-2-Clause */
#include "block/map.h"

#include "util/cleanup.h"

#include <string.h>

int block_map_init(struct block_map *map, uint64_t pages)
{
    memset(map, 0, sizeof(*map));
    map->pages = pages;
    map->dirty = bitmap_new(pages);
    map->unsaved = bitmap_new(pages);
    map->heat = calloc(pages ? pages : 1, 1);
    if (!map->dirty || !map->unsaved || !map->heat) {
        free(map->dirty);
        free(map->unsaved);
        free(map->heat);
        return -ENOMEM;
    }
    pthread_mutex_init(&map->lock, NULL);
    pthread_cond_init(&map->changed, NULL);
    return 0;
}

static void forget_remote(struct block_map *map)
{
    if (map->borrowed) {
        map->present = map->hash = NULL;
        map->generation = map->held = NULL;
    }
    map->borrowed = false;
    free(map->present);
    free(map->claimed);
    free(map->requested);
    free(map->generation);
    free(map->held);
    map->present = map->claimed = map->requested = NULL;
    map->generation = map->held = NULL;
}

void block_map_release(struct block_map *map)
{
    if (!map->dirty)
        return;
    forget_remote(map);
    free(map->hash);
    free(map->dirty);
    free(map->unsaved);
    free(map->heat);
    pthread_cond_destroy(&map->changed);
    pthread_mutex_destroy(&map->lock);
    memset(map, 0, sizeof(*map));
}

/* Dirty pages */

static uint64_t word_mask(uint64_t first, uint64_t count, uint64_t word)
{
    uint64_t begin = word * BITMAP_WORD_BITS, end = begin + BITMAP_WORD_BITS;
    uint64_t low = first > begin ? first - begin : 0;
    uint64_t high = first + count < end ? first + count - begin : BITMAP_WORD_BITS;
    uint64_t below_high = high == BITMAP_WORD_BITS ? UINT64_MAX : (UINT64_C(1) << high) - 1;

    return below_high & ~((UINT64_C(1) << low) - 1);
}

static void mark(uint64_t *words, uint64_t first, uint64_t count)
{
    if (!count)
        return;
    for (uint64_t word = first / BITMAP_WORD_BITS; word <= (first + count - 1) / BITMAP_WORD_BITS;
         word++)
        __atomic_fetch_or(&words[word], word_mask(first, count, word), __ATOMIC_RELEASE);
}

void block_map_mark_dirty(struct block_map *map, uint64_t first, uint64_t count)
{
    mark(map->dirty, first, count);
}

void block_map_mark_unsaved(struct block_map *map, uint64_t first, uint64_t count)
{
    mark(map->unsaved, first, count);
}

void block_map_clear_unsaved(struct block_map *map, uint64_t page)
{
    __atomic_fetch_and(&map->unsaved[page / BITMAP_WORD_BITS],
                       ~(UINT64_C(1) << (page % BITMAP_WORD_BITS)), __ATOMIC_RELEASE);
}

static void warm(struct block_map *map, uint64_t word, uint64_t bits)
{
    for (; bits; bits &= bits - 1) {
        uint64_t page = word * BITMAP_WORD_BITS + (unsigned)__builtin_ctzll(bits);

        if (map->heat[page] < UINT8_MAX)
            map->heat[page]++;
    }
}

uint64_t block_map_take_dirty(struct block_map *map, uint64_t *into)
{
    uint64_t count = 0;

    for (uint64_t word = 0; word < bitmap_words(map->pages); word++) {
        uint64_t bits;

        if (!__atomic_load_n(&map->dirty[word], __ATOMIC_RELAXED))
            continue;
        bits = __atomic_exchange_n(&map->dirty[word], 0, __ATOMIC_ACQUIRE);
        count += (uint64_t)__builtin_popcountll(bits);
        into[word] |= bits;
        warm(map, word, bits);
    }
    return count;
}

uint64_t block_map_count_dirty(const struct block_map *map)
{
    uint64_t count = 0;

    for (uint64_t word = 0; word < bitmap_words(map->pages); word++)
        count += (uint64_t)__builtin_popcountll(
            __atomic_load_n(&map->dirty[word], __ATOMIC_RELAXED));
    return count;
}

/* Arrival */

int block_map_begin_remote(struct block_map *map)
{
    lock_scope(&map->lock);
    map->present = bitmap_new(map->pages);
    map->claimed = bitmap_new(map->pages);
    map->requested = bitmap_new(map->pages);
    map->generation = calloc(map->pages ? map->pages : 1, sizeof(*map->generation));
    map->held = calloc(map->pages ? map->pages : 1, sizeof(*map->held));
    free(map->hash);
    map->hash = calloc(map->pages ? map->pages : 1, sizeof(*map->hash));
    if (!map->present || !map->claimed || !map->requested || !map->generation || !map->held ||
        !map->hash) {
        forget_remote(map);
        return -ENOMEM;
    }
    map->missing = map->pages;
    map->failed = 0;
    __atomic_store_n(&map->remote, true, __ATOMIC_RELEASE);
    return 0;
}

uint64_t block_map_losses(struct block_map *map)
{
    lock_scope(&map->lock);
    return map->losses;
}

bool block_map_end_remote(struct block_map *map, uint64_t losses)
{
    lock_scope(&map->lock);
    while (map->storing)
        pthread_cond_wait(&map->changed, &map->lock);
    if (map->losses != losses || (map->missing && __atomic_load_n(&map->remote, __ATOMIC_ACQUIRE)))
        return false;
    /*
     * The arrays stay until release: a reader may have seen `remote` just before and be on its way
     * to the lock.
     */
    __atomic_store_n(&map->remote, false, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&map->changed);
    return true;
}

size_t block_map_remote_size(uint64_t pages)
{
    return (size_t)pages * (2 * sizeof(uint32_t) + sizeof(uint64_t)) +
           bitmap_words(pages) * sizeof(uint64_t);
}

/* A page that is not here may be half of one in storage: nothing can be based on it. */
static void distrust(struct block_map *map)
{
    map->missing = 0;
    for (uint64_t page = 0; page < map->pages; page++) {
        if (bitmap_test(map->present, page))
            continue;
        map->missing++;
        map->held[page] = 0;
    }
}

int block_map_begin_remote_in(struct block_map *map, void *memory, bool found)
{
    lock_scope(&map->lock);
    map->claimed = bitmap_new(map->pages);
    map->requested = bitmap_new(map->pages);
    if (!map->claimed || !map->requested) {
        forget_remote(map);
        return -ENOMEM;
    }
    free(map->hash);
    map->borrowed = true;
    map->hash = memory;
    map->present = map->hash + map->pages;
    map->generation = (uint32_t *)(map->present + bitmap_words(map->pages));
    map->held = map->generation + map->pages;
    map->missing = map->pages;
    map->failed = 0;
    if (found)
        distrust(map);
    __atomic_store_n(&map->remote, true, __ATOMIC_RELEASE);
    return 0;
}

static void set_missing(struct block_map *map, uint64_t page)
{
    if (bitmap_test(map->present, page)) {
        bitmap_clear(map->present, page);
        map->missing++;
    }
    bitmap_clear(map->requested, page);
}

bool block_map_lose(struct block_map *map, uint64_t page)
{
    lock_scope(&map->lock);
    if (!__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE) || map->failed ||
        map->generation[page] == BLOCK_GENERATION_LOCAL)
        return false;
    if (bitmap_test(map->present, page) && !bitmap_test(map->claimed, page)) {
        set_missing(map, page);
        map->held[page] = 0;
        map->losses++;
    }
    return true;
}

static void set_present(struct block_map *map, uint64_t page)
{
    if (!bitmap_test(map->present, page)) {
        bitmap_set(map->present, page);
        map->missing--;
    }
}

void block_map_announce(struct block_map *map, uint64_t first, uint64_t count, uint32_t generation)
{
    lock_scope(&map->lock);
    for (uint64_t page = first; page < first + count; page++) {
        if (generation <= map->generation[page])
            continue;
        map->generation[page] = generation;
        set_missing(map, page);
    }
}

static bool acceptable(const struct block_map *map, uint64_t page, uint32_t generation)
{
    if (generation == map->generation[page])
        return !bitmap_test(map->present, page);
    return generation > map->generation[page];
}

/* True when a page that this writer wants is being stored by another. */
static bool must_wait(const struct block_map *map, uint64_t first, unsigned count,
                      uint32_t generation)
{
    for (uint64_t page = bitmap_next_set(map->claimed, first, first + count); page < first + count;
         page = bitmap_next_set(map->claimed, page + 1, first + count))
        if (acceptable(map, page, generation))
            return true;
    return false;
}

bool block_map_claim(struct block_map *map, uint64_t first, unsigned count, uint32_t generation,
                     uint64_t mask[BLOCK_MASK_WORDS])
{
    bool any = false;

    memset(mask, 0, BLOCK_MASK_WORDS * sizeof(mask[0]));
    lock_scope(&map->lock);
    while (must_wait(map, first, count, generation))
        pthread_cond_wait(&map->changed, &map->lock);
    for (unsigned i = 0; __atomic_load_n(&map->remote, __ATOMIC_ACQUIRE) && i < count; i++) {
        if (!acceptable(map, first + i, generation))
            continue;
        bitmap_set(map->claimed, first + i);
        bitmap_set(mask, i);
        map->storing++;
        any = true;
    }
    return any;
}

static void store_one(struct block_map *map, uint64_t page, uint32_t generation)
{
    map->held[page] = generation;
    if (generation < map->generation[page])
        return; /* announced anew while it was being stored: it is stale already */
    map->generation[page] = generation;
    set_present(map, page);
}

void block_map_claim_end(struct block_map *map, uint64_t first, unsigned count, uint32_t generation,
                         const uint64_t mask[BLOCK_MASK_WORDS], const uint64_t *hashes, bool stored)
{
    lock_scope(&map->lock);
    for (unsigned i = 0; i < count; i++) {
        if (!bitmap_test(mask, i))
            continue;
        bitmap_clear(map->claimed, first + i);
        map->storing -= generation != BLOCK_GENERATION_LOCAL;
        if (!stored) {
            map->held[first + i] = 0; /* storage may hold half of it */
            if (generation != BLOCK_GENERATION_LOCAL)
                set_missing(map, first + i);
            continue;
        }
        if (hashes)
            map->hash[first + i] = hashes[i];
        store_one(map, first + i, generation);
    }
    pthread_cond_broadcast(&map->changed);
}

void block_map_claim_cancel(struct block_map *map, uint64_t first, unsigned count,
                            const uint64_t mask[BLOCK_MASK_WORDS])
{
    lock_scope(&map->lock);
    for (unsigned i = 0; i < count; i++) {
        if (!bitmap_test(mask, i))
            continue;
        bitmap_clear(map->claimed, first + i);
        map->storing--;
    }
    pthread_cond_broadcast(&map->changed);
}

void block_map_claim_local(struct block_map *map, uint64_t first, unsigned count,
                           uint64_t mask[BLOCK_MASK_WORDS])
{
    memset(mask, 0, BLOCK_MASK_WORDS * sizeof(mask[0]));
    lock_scope(&map->lock);
    while (bitmap_next_set(map->claimed, first, first + count) < first + count)
        pthread_cond_wait(&map->changed, &map->lock);
    for (unsigned i = 0; i < count; i++)
        if (!bitmap_test(map->present, first + i))
            map->hash[first + i] = 0; /* what the source has of it will never be seen here */
    bitmap_set_range(map->claimed, first, count);
    bitmap_set_range(mask, 0, count);
}

/* Waiting for pages */

bool block_map_present(struct block_map *map, uint64_t first, uint64_t count)
{
    if (!__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE))
        return true;
    lock_scope(&map->lock);
    return bitmap_next_clear(map->present, first, first + count) >= first + count;
}

/* The next run of missing pages that nobody asked for, marked as asked; false: none. */
static bool next_unrequested(struct block_map *map, uint64_t first, uint64_t end,
                             uint64_t *ret_first, uint64_t *ret_count)
{
    uint64_t page = bitmap_next_clear(map->present, first, end);

    while (page < end && bitmap_test(map->requested, page))
        page = bitmap_next_clear(map->present, page + 1, end);
    if (page >= end)
        return false;
    *ret_first = page;
    while (page < end && !bitmap_test(map->present, page) && !bitmap_test(map->requested, page))
        bitmap_set(map->requested, page++);
    *ret_count = page - *ret_first;
    return true;
}

int block_map_wait(struct block_map *map, uint64_t first, uint64_t count,
                   void (*need)(void *opaque, uint64_t first, uint64_t count), void *opaque)
{
    uint64_t end = first + count, run, length;

    lock_scope(&map->lock);
    while (__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE) &&
           bitmap_next_clear(map->present, first, end) < end) {
        if (map->failed)
            return -map->failed;
        if (next_unrequested(map, first, end, &run, &length)) {
            map->asking++;
            pthread_mutex_unlock(&map->lock);
            need(opaque, run, length);
            pthread_mutex_lock(&map->lock);
            if (!--map->asking && (map->failed || !__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE)))
                pthread_cond_broadcast(&map->changed);
            continue;
        }
        pthread_cond_wait(&map->changed, &map->lock);
    }
    return 0;
}

void block_map_forget_requests(struct block_map *map)
{
    if (!__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE))
        return;
    lock_scope(&map->lock);
    memset(map->requested, 0, bitmap_words(map->pages) * sizeof(uint64_t));
    pthread_cond_broadcast(&map->changed);
}

void block_map_fail(struct block_map *map, int code)
{
    lock_scope(&map->lock);
    map->failed = code;
    pthread_cond_broadcast(&map->changed);
}

void block_map_await_askers(struct block_map *map)
{
    lock_scope(&map->lock);
    while (map->asking)
        pthread_cond_wait(&map->changed, &map->lock);
}

int block_map_wait_all(struct block_map *map)
{
    lock_scope(&map->lock);
    while (__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE) && map->missing && !map->failed)
        pthread_cond_wait(&map->changed, &map->lock);
    return -map->failed;
}

uint64_t block_map_missing(struct block_map *map)
{
    if (!__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE))
        return 0;
    lock_scope(&map->lock);
    return map->missing;
}

void block_map_get_missing(struct block_map *map, uint64_t *into)
{
    if (!__atomic_load_n(&map->remote, __ATOMIC_ACQUIRE))
        return;
    lock_scope(&map->lock);
    for (uint64_t page = bitmap_next_clear(map->present, 0, map->pages); page < map->pages;
         page = bitmap_next_clear(map->present, page + 1, map->pages))
        bitmap_set(into, page);
}
