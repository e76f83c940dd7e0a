/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file that is made under a temporary name beside its final one and gets that when it is complete and
 * durable.  What is not committed leaves nothing.
 */
#ifndef UTIL_OUTPUT_H
#define UTIL_OUTPUT_H

#include <drafter/common.h>

struct output {
    int fd;
    char *path, *temporary; /* NULL: not open */
};

/* Mode 0600.  Directories on the way must be there.  What is there and no file (a device, say) is refused. */
int output_open(struct output *output, const char *path, struct drafter_error *err);

/* Brings the content to stable storage. */
int output_sync(struct output *output, struct drafter_error *err);

/* Gives it its name, durably; after output_sync. */
int output_commit(struct output *output, struct drafter_error *err);

/* Removes what was not committed. */
void output_release(struct output *output);

#endif
