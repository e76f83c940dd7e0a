/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames of a device that were decompressed lately.  Each has one slot where it can be, so there is no list to
 * keep; whoever wants a frame that another thread decompresses waits for that.
 */
#ifndef PACKAGE_CACHE_H
#define PACKAGE_CACHE_H

#include "pack/reader.h"

struct cache;

/* `reader` and `table` are borrowed; at least one frame is kept.  Nothing is allocated afterwards. */
int cache_new(const struct pack_reader *reader, const struct pack_table *table, uint64_t size,
              struct cache **ret_cache);
void cache_free(struct cache *cache);

/* Copies a part of a frame; one that is wanted whole does not push others out.  Any thread. */
int cache_read(struct cache *cache, uint32_t index, void *buffer, size_t length, size_t offset);

#endif
