/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of pages on the wire: pairs of (pages to skip, pages that belong) as unsigned LEB128 numbers,
 * which is short for the few runs that a dirty set usually is and never longer than 2 bytes a page.
 */
#ifndef MIGRATE_PAGESET_H
#define MIGRATE_PAGESET_H

#include <drafter/common.h>

/*
 * Encodes the set bits of `bitmap` from *cursor on into at most `capacity` bytes and moves *cursor
 * behind what was encoded (to `pages` when all is).  Returns the bytes used; 0 when no bit is set.
 * Each piece is complete by itself: its first skip counts from page 0.
 */
size_t pageset_encode(const uint64_t *bitmap, uint64_t pages, uint64_t *cursor, void *buffer,
                      size_t capacity);

/*
 * Calls `visit` for each run, in rising order.  -EPROTO for runs that are malformed, empty or beyond
 * `pages`; nothing was visited then.
 */
int pageset_decode(const void *data, size_t length, uint64_t pages,
                   void (*visit)(void *opaque, uint64_t first, uint64_t count), void *opaque);

#endif
