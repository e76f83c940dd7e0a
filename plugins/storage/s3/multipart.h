/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Uploads one object, written once and from front to back: in parts at the same time, or, when it is short, in one
 * request.  The object appears as a whole when finish() returns 0, or not at all; what an upload has left that was
 * cut off goes with the next one of the same name.
 */
#ifndef S3_MULTIPART_H
#define S3_MULTIPART_H

#include "http.h"
#include "pool.h"

struct multipart;

struct multipart_settings {
    struct http *http; /* borrowed, as are the strings */
    struct pool *pool; /* borrowed */
    const char *bucket, *object;
    const char *path; /* of it, encoded */
    uint64_t size, part_size;
    unsigned connections;
    uint64_t drain_ns; /* how long it may take to remove what was not finished */
    bool replace;      /* whatever is there; else it is an error */
};

int multipart_begin(const struct multipart_settings *settings, struct multipart **ret_upload,
                    struct drafter_error *err);

/* `buffer` NULL: zeros.  -ESPIPE: not where the last one ended. */
int multipart_write(struct multipart *upload, const void *buffer, size_t length, uint64_t offset);

/* All was written: makes the object.  Once. */
int multipart_finish(struct multipart *upload, struct drafter_error *err);

/* Unless it is finished, nothing of it stays. */
void multipart_free(struct multipart *upload);

#endif
