/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The block map of one device: per page, is it here, who is storing it, has the VMM written it, and
 * which generation of it is known.  Pure bookkeeping, no I/O; all state changes under one short lock.
 *
 * A generation is the number of the source's pass that sent a page: content of generation g holds
 * every write that the guest made before pass g began.  The rules that keep an older copy from ever
 * replacing a newer one, in any order of arrival over any number of streams:
 *
 *   - announce(p, g): the source will (re)send p in pass g.  g > generation[p] makes p missing.
 *   - store(p, g): accepted if g > generation[p], or g equals it and p is missing; else dropped.
 *   - a write by the VMM makes p present with generation BLOCK_GENERATION_LOCAL, which nothing beats.
 *
 * Whoever stores a page claims it first and does the I/O without the lock; a second writer of the page
 * waits for the claim to end and is judged anew.
 */
#ifndef BLOCK_MAP_H
#define BLOCK_MAP_H

#include "util/bitmap.h"
#include <drafter/common.h>
#include <pthread.h>

#define BLOCK_GENERATION_LOCAL UINT32_MAX

/* The most pages that one claim covers: 1 MiB. */
#define BLOCK_RUN_MAX 256
#define BLOCK_MASK_WORDS (BLOCK_RUN_MAX / BITMAP_WORD_BITS)

struct block_map {
    uint64_t pages;
    uint64_t *dirty; /* atomic words: written by the VMM since the last take */
    uint64_t *unsaved; /* atomic words: the VMM wrote it, storage refused, its cache has the only copy */
    uint8_t *heat;   /* by the one thread that takes dirty pages: passes in which a page was dirty */

    bool remote; /* atomic: pages may be missing; false makes reads and writes free of the lock */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a claim ended, a page became present, or the map failed */
    /* Under `lock`, only while the map is (or was) remote: */
    uint64_t *present;
    uint64_t *claimed;
    uint64_t *requested;
    uint32_t *generation; /* newest announced or stored; LOCAL once the VMM wrote it */
    uint32_t *held;       /* generation of what storage holds, 0: nothing, LOCAL: the VMM's */
    uint64_t *hash;       /* XXH3-64 of the page as it arrived; 0: the VMM overwrote it before */
    uint64_t missing;     /* pages not present */
    uint64_t losses;      /* of pages that were present */
    uint64_t storing;     /* pages claimed for what the source sent */
    bool borrowed;        /* present, generation, held and hash are somebody else's memory */
    int failed;           /* errno for whoever waits for a page that will not come; 0 */
    unsigned asking;      /* threads that call `need` at this moment */
};

int block_map_init(struct block_map *map, uint64_t pages);
void block_map_release(struct block_map *map);

/* Dirty tracking: any thread marks; one thread at a time takes. */
void block_map_mark_dirty(struct block_map *map, uint64_t first, uint64_t count);

/* A write of these pages failed, or was made good. */
void block_map_mark_unsaved(struct block_map *map, uint64_t first, uint64_t count);
void block_map_clear_unsaved(struct block_map *map, uint64_t page);

/* ORs the dirty pages into `into`, clears them here, warms their heat; returns how many there were. */
uint64_t block_map_take_dirty(struct block_map *map, uint64_t *into);
uint64_t block_map_count_dirty(const struct block_map *map);

/* The device arrives from elsewhere: every page is missing, generation 0. */
int block_map_begin_remote(struct block_map *map);

/*
 * The same with its arrays in `memory` of block_map_remote_size(pages) zeroed bytes, borrowed until
 * release; with `found` they are what a process that was killed left, at any instant.
 */
size_t block_map_remote_size(uint64_t pages);
int block_map_begin_remote_in(struct block_map *map, void *memory, bool found);

/* How often something that was here turned out to be no good, so far. */
uint64_t block_map_losses(struct block_map *map);

/*
 * Everything is here: forgets the arrival's bookkeeping but the hashes.  False: a page is missing, or was lost since
 * there were so many losses; it is as before.  Waits for what is being stored; what comes later is dropped, as the
 * VMM's writes leave no mark any more.
 */
bool block_map_end_remote(struct block_map *map, uint64_t losses);

/* The source (re)sends these pages in pass `generation`. */
void block_map_announce(struct block_map *map, uint64_t first, uint64_t count, uint32_t generation);

/*
 * Claims those of `count` (at most BLOCK_RUN_MAX) pages that content of `generation` may be stored to;
 * waits for other claims on them.  `mask` gets a bit per page, relative to `first`.  False: none, or the arrival has
 * ended.
 */
bool block_map_claim(struct block_map *map, uint64_t first, unsigned count, uint32_t generation,
                     uint64_t mask[BLOCK_MASK_WORDS]);

/*
 * Ends a claim.  With `stored` the pages are present unless a newer generation was announced since; else what the
 * source sent is missing, though an older version was here.
 * `hashes` (one per page of the run; may be NULL) are kept for the final comparison.
 */
void block_map_claim_end(struct block_map *map, uint64_t first, unsigned count, uint32_t generation,
                         const uint64_t mask[BLOCK_MASK_WORDS], const uint64_t *hashes, bool stored);

/* Ends a claim under which nothing was changed. */
void block_map_claim_cancel(struct block_map *map, uint64_t first, unsigned count,
                            const uint64_t mask[BLOCK_MASK_WORDS]);

/* As claim for a write by the VMM, which is never refused; waits for other claims. */
void block_map_claim_local(struct block_map *map, uint64_t first, unsigned count,
                           uint64_t mask[BLOCK_MASK_WORDS]);

/* What storage holds of a page is no good: it is missing again.  False: there is nobody to ask for it. */
bool block_map_lose(struct block_map *map, uint64_t page);

/* Are all pages of the range present? */
bool block_map_present(struct block_map *map, uint64_t first, uint64_t count);

/*
 * Waits until the range is present.  Calls `need` (without the lock) for each run of it that nobody
 * asked for yet.  0, or the negative errno that block_map_fail gave.
 */
int block_map_wait(struct block_map *map, uint64_t first, uint64_t count,
                   void (*need)(void *opaque, uint64_t first, uint64_t count), void *opaque);

/* Pages that were asked for may be asked for again: the link that carried the question is gone. */
void block_map_forget_requests(struct block_map *map);

/* Wakes all waiters with -code; code 0 lets reads wait again. */
void block_map_fail(struct block_map *map, int code);

/*
 * The map has failed or its arrival has ended: returns when no thread calls `need` any more, and none will.  What
 * `need` waits for must have ended.
 */
void block_map_await_askers(struct block_map *map);

/* Waits until no page is missing (0) or block_map_fail (its -code).  Asks for nothing. */
int block_map_wait_all(struct block_map *map);

uint64_t block_map_missing(struct block_map *map);

/* ORs the missing pages into a bitmap. */
void block_map_get_missing(struct block_map *map, uint64_t *into);

#endif
