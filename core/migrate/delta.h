/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The difference of two versions of a page: (bytes that stay, bytes that changed) pairs of LEB128
 * numbers, each pair followed by the changed bytes.  The idea is XBZRLE's (QEMU docs/xbzrle.txt); the
 * new bytes are given rather than an XOR, so that applying needs one pass.
 */
#ifndef MIGRATE_DELTA_H
#define MIGRATE_DELTA_H

#include <drafter/common.h>

/*
 * Writes the delta from `before` to `after` (DRAFTER_PAGE_SIZE bytes each).  Returns its length, or
 * SIZE_MAX when it would be longer than `capacity`: then the page is better sent whole.  0: equal.
 */
size_t delta_encode(const void *before, const void *after, void *buffer, size_t capacity);

/* Changes the page in place.  -EPROTO for a malformed delta; the page is then undefined. */
int delta_apply(void *page, const void *delta, size_t length);

#endif
