/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks in memory between a device and a bucket: what was read, what is read ahead, and what was written
 * and is still to be sent.  Any thread.  Who waits for a block waits for that block alone.
 */
#ifndef S3_CACHE_H
#define S3_CACHE_H

#include "pool.h"
#include <drafter/common.h>

/* Where blocks come from and go to; `length` is less than a block's at the end of the device. */
struct cache_source {
    void *host;
    uint64_t size; /* bytes */
    int (*load)(void *host, uint64_t block, void *content, size_t length);

    /*
     * Two steps, so that a block may be written again while it is sent: begin() takes what it needs of
     * `content` and returns it, finish() sends it and releases it in any case.  NULL: read-only.
     */
    int (*begin)(void *host, uint64_t block, const void *content, size_t length, void **ret_upload);
    int (*finish)(void *host, void *upload);
};

struct cache;

/* Borrows `pool`, copies `source`. */
struct cache *cache_new(const struct cache_source *source, struct pool *pool, uint32_t block_size,
                        uint64_t room, unsigned readahead);

/* What was not sent is lost; the pool must be idle. */
void cache_free(struct cache *cache);

/* The device has become larger; nobody else is inside. */
void cache_resize(struct cache *cache, uint64_t size);

int cache_read(struct cache *cache, void *buffer, size_t length, uint64_t offset);

/* `buffer` NULL: zeros. */
int cache_write(struct cache *cache, const void *buffer, size_t length, uint64_t offset);

/* Sends what was written before the call; the first failure, if any. */
int cache_clean(struct cache *cache);

/* Is the block in memory, so that the bucket need not be asked? */
bool cache_has(struct cache *cache, uint64_t block);

#endif
