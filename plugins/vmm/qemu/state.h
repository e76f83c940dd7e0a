/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The saved device state: a header that tells how long QEMU's migration stream is, then the stream.
 *
 *     u8 magic[8]  "drfqemu1"
 *     u64 length   of the stream, little-endian
 *
 * QEMU reads and writes it through an unlinked memory file rather than a pipe: then neither side
 * waits for the other, and the size of what QEMU writes is bounded by a seal.
 */
#ifndef QEMU_STATE_H
#define QEMU_STATE_H

#include <drafter/common.h>

#define STATE_HEADER 16
#define STATE_MAX ((uint64_t)64 << 20)

/* A memory file that QEMU may write a stream into, at most STATE_MAX bytes. */
int state_create(int *ret_fd, struct drafter_error *err);

/* Writes header and stream to `fd`; the stream is what lies before memory_fd's file offset. */
int state_write(int memory_fd, int fd, struct drafter_error *err);

/* Reads header and stream from `fd` into a new memory file, positioned at its start. */
int state_read(int fd, int *ret_memory_fd, struct drafter_error *err);

#endif
