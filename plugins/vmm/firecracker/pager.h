/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages for a Firecracker whose memory is its own: what the guest touches for the first time is read from
 * the memory device and copied in (userfaultfd), all the rest meanwhile from front to back.  A page that
 * the device has not got yet is waited for, and the guest with it, and nobody else.
 *
 * Processes of their own do that, as many as may wait at a time.  A thread of ours that waits for a
 * device which we serve ourselves could not be killed any more when it is too late to answer it; and
 * what outlives a killed drafter needs no adoption.  They end with Firecracker.
 */
#ifndef FIRECRACKER_PAGER_H
#define FIRECRACKER_PAGER_H

#include <drafter/plugin.h>
#include <pthread.h>

#define PAGER_REGIONS_MAX 16

/* Where memory is in Firecracker, and where in the device. */
struct pager_region {
    uint64_t address, size, offset;
};

struct pager {
    int listener, uffd, memory, stop_fd; /* -1: none */
    int pidfd;                           /* Firecracker's, borrowed */
    uint64_t memory_size;
    struct pager_region regions[PAGER_REGIONS_MAX]; /* constant from connected on */
    uint32_t region_count;
    pthread_t greeter; /* hears where memory is */
    bool greeting, prefetching;
    int connected; /* atomic: 1, or the negative errno of what went wrong */
};

void pager_init(struct pager *pager);

/* Listens at the socket `name` for Firecracker's word that it wants pages of `path`. */
int pager_start(struct pager *pager, const char *directory, const char *name, const char *path,
                uint64_t memory_size, int pidfd, struct drafter_error *err);

/* Waits until Firecracker has said where its memory is. */
int pager_await(struct pager *pager, uint64_t deadline, struct drafter_error *err);

/* Begins to copy in what nobody has asked for; not needed. */
void pager_prefetch(struct pager *pager);

/* Forgets it; what serves pages goes on until Firecracker ends. */
void pager_stop(struct pager *pager);

#endif
