/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firecracker's API: JSON over HTTP on a UNIX socket.  One request at a time; an answer is bounded, and
 * a call ends at its deadline.
 */
#ifndef FIRECRACKER_API_H
#define FIRECRACKER_API_H

#include <drafter/common.h>
#include <jansson.h>

struct api {
    void *curl; /* NULL: closed */
    int directory_fd;
};

/* The socket `name` in `directory`; connects with the first call. */
int api_open(struct api *api, const char *directory, const char *name, struct drafter_error *err);
void api_close(struct api *api); /* also one that was never opened, when zeroed */

/*
 * `body` (taken; may be NULL) is sent as JSON.  -EPIPE: there is nobody at the other end (any more);
 * -EINVAL with Firecracker's words: it refuses; -ETIMEDOUT.
 */
int api_put(struct api *api, const char *path, json_t *body, uint64_t deadline,
            struct drafter_error *err);
int api_patch(struct api *api, const char *path, json_t *body, uint64_t deadline,
              struct drafter_error *err);

/* The caller owns *ret_value. */
int api_get(struct api *api, const char *path, uint64_t deadline, json_t **ret_value,
            struct drafter_error *err);

#endif
