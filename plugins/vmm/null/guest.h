/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest of the null VMM: a thread that writes pages of memory and drives at given rates, prints
 * heartbeats, and stops for good at the first page that is not as it left it.
 *
 * The files and counters belong to the thread while it runs and to the caller while it is halted;
 * `lock` protects the hand-over between the two.
 */
#ifndef NULL_GUEST_H
#define NULL_GUEST_H

#include "oracle.h"
#include <pthread.h>

#define GUEST_FILES_MAX 16

struct guest {
    struct oracle files[GUEST_FILES_MAX]; /* the memory, then the writable drives */
    size_t file_count;
    uint64_t rates[GUEST_FILES_MAX]; /* pages a second */
    uint64_t heartbeat_ns;           /* 0: none */
    int serial;                      /* where heartbeats go; borrowed, -1: nowhere */
    bool scan;                       /* also verify what is not written, in the background */
    uint64_t beats;

    pthread_t thread;
    bool started; /* the thread exists; only its creator looks */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted, runs, quit;    /* lock */
    struct drafter_error fault; /* lock; code 0: none */
};

/* Starts the thread, halted. */
int guest_start(struct guest *guest, struct drafter_error *err);

void guest_run(struct guest *guest);

/* Returns when the thread has let go of its files. */
void guest_halt(struct guest *guest);

/* Fails with what made the guest stop by itself, if it did. */
int guest_check(struct guest *guest, struct drafter_error *err);

/* Ends the thread; nothing happens when there is none. */
void guest_stop(struct guest *guest);

#endif
