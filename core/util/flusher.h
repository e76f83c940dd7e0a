/* SPDX-License-Identifier: BSD-2-Clause */
/* A process that writes back other processes' dirty pages must not wait for memory to do so. */
#ifndef UTIL_FLUSHER_H
#define UTIL_FLUSHER_H

/*
 * Keeps the process's pages in memory, and tells the kernel that its allocations must not wait for
 * write-back: that would be waiting for itself.  Best effort: without the privileges nothing changes.
 */
void flusher_setup(void);

#endif
