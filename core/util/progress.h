/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far something long is, on standard error: done, rate and time left.  A line that is rewritten on a
 * terminal, lines for people, or JSON.  SIGUSR1 asks for one at once, whatever the form.
 */
#ifndef UTIL_PROGRESS_H
#define UTIL_PROGRESS_H

#include <drafter/common.h>

enum progress_form { PROGRESS_AUTO, PROGRESS_TTY, PROGRESS_PLAIN, PROGRESS_JSON, PROGRESS_NONE };

extern const char *const progress_forms[]; /* in that order, NULL-terminated */

struct progress {
    enum progress_form form;
    const char *what; /* "packing" */
    uint64_t total, done; /* bytes */
    uint64_t started_ns, shown_ns;
    int signals; /* signalfd of SIGUSR1, -1: none */
    bool open_line;
};

/* Call before other threads exist: they inherit that SIGUSR1 is blocked.  `what` is borrowed. */
void progress_begin(struct progress *progress, enum progress_form form, const char *what,
                    uint64_t total);

void progress_advance(struct progress *progress, uint64_t bytes);

/* The last line, unless it failed. */
void progress_end(struct progress *progress, bool complete);

#endif
