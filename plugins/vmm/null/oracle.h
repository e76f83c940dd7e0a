/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Content that proves itself: a file whose every page says which page of which VM it is and how
 * often it has been written, and a count of writes from which the right version of each page
 * follows.
 *
 * Pages [0, hot) are written in rounds.  A round visits each hot page once, in an order that
 * differs from round to round, so that the version of a page after `steps` writes is known without
 * a table: the number of whole rounds, plus one if this round has passed it.  Pages [hot, pages)
 * stay at version 0.  A page that was lost, is stale, or belongs elsewhere is therefore always
 * noticed.
 */
#ifndef NULL_ORACLE_H
#define NULL_ORACLE_H

#include <drafter/common.h>

struct oracle {
    const char *what; /* for messages: "memory", the name of a drive; not owned */
    int fd;
    uint64_t key;                    /* of the VM and the file */
    uint64_t pages;                  /* that are filled and verified */
    uint64_t hot;                    /* of these, how many are rewritten */
    uint64_t steps;                  /* writes so far */
    uint64_t stride, stride_inverse; /* of a round's order; from hot */
    uint64_t scanned;                /* pages that oracle_scan has verified */
};

/* Sets everything but `steps` and `scanned`, which start at 0; `fd` is borrowed. */
int oracle_init(struct oracle *oracle, const char *what, int fd, uint64_t key, uint64_t pages,
                uint64_t hot, struct drafter_error *err);

/* Writes version 0 of all pages. */
int oracle_fill(const struct oracle *oracle, struct drafter_error *err);

/* Verifies the next page in turn and writes its next version. */
int oracle_step(struct oracle *oracle, struct drafter_error *err);

/* Verifies up to `count` pages that were not scanned yet; -EBADMSG at the first bad one. */
int oracle_scan(struct oracle *oracle, uint64_t count, struct drafter_error *err);

/* Verifies all pages; the error counts the bad ones and describes the first. */
int oracle_verify(const struct oracle *oracle, struct drafter_error *err);

/* The version that `page` must have now. */
uint64_t oracle_version(const struct oracle *oracle, uint64_t page);

/* A well-mixed function of x. */
uint64_t oracle_mix(uint64_t x);

#endif
