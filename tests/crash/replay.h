/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every state that a power cut may leave of a recorded run: for every prefix of the record, the subsets
 * of what was not synced by then.  Up to REPLAY_EXHAUSTIVE operations all subsets, and each again with
 * one operation torn; beyond that the extremes and samples from a fixed seed.
 */
#ifndef CRASH_REPLAY_H
#define CRASH_REPLAY_H

#include "disk.h"

#define REPLAY_EXHAUSTIVE 4
#define REPLAY_SAMPLES 24

/*
 * Called with each state; `executed` operations were begun before the cut.  `image` may be changed.
 * Returns false to stop.
 */
typedef bool (*replay_visit)(void *opaque, struct disk_image *image, size_t executed);

/* Returns the number of states visited. */
size_t replay(const struct disk *disk, uint64_t seed, replay_visit visit, void *opaque);

/* xorshift64*: the only source of chance here. */
uint64_t replay_random(uint64_t *state);

#endif
