/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The saved device state: a header that tells how long the VMM's own stream is, then the stream.
 *
 *     u8 magic[8]  of the VMM, as "drfqemu1"
 *     u64 length   of the stream, little-endian
 *
 * The VMM reads and writes it through a file in memory rather than a pipe: then neither side waits for
 * the other, and the size of what it writes is bounded.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <drafter/common.h>

#define STATE_MAGIC 8
#define STATE_HEADER 16
#define STATE_MAX ((uint64_t)64 << 20)

/* A memory file that a VMM may write a stream into, at most STATE_MAX bytes. */
int state_create(int *ret_fd, struct drafter_error *err);

/* Writes header and stream to `fd`; the stream is what lies before memory_fd's file offset. */
int state_write(const char *magic, int memory_fd, int fd, struct drafter_error *err);

/*
 * Reads header and stream from `fd` into a new memory file, positioned at its start.  With `prefixed` a
 * stream without our header, which begins with its own length (a u64), is taken as it is.
 */
int state_read(const char *magic, bool prefixed, int fd, int *ret_memory_fd,
               struct drafter_error *err);

#endif
