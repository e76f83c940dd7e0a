/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket of a running node: RUN-DIRECTORY/NAME.control, for its own user and root alone.
 *
 * A request is one line, a JSON object: {"command": "status", ...}; so is the answer: {"ok": true, ...} or
 * {"ok": false, "code": ERRNO, "error": "..."}.  A connection may carry any number of them.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <drafter/common.h>
#include <jansson.h>

#define CONTROL_LINE_MAX 65536
#define CONTROL_SUFFIX ".control"

struct control_asker;

/* Whoever asks has hung up.  A request that waits for something without an end looks now and then. */
bool control_asker_left(const struct control_asker *asker);

struct control_ops {
    /*
     * Does what is asked and adds to `answer`, an object; a failure becomes the answer instead.  From any
     * thread, several at a time.
     */
    int (*request)(void *opaque, const struct control_asker *asker, const char *command, const json_t *request,
                   json_t *answer, struct drafter_error *err);
    void *opaque;
};

struct control;

int control_start(const char *run_directory, const char *name, const struct control_ops *ops,
                  struct control **ret_control, struct drafter_error *err);

/* Waits for requests that are being done.  NULL is allowed. */
void control_stop(struct control *control);

/* ---- the other end */

/*
 * Asks the node `name` and waits for the answer (timeout_ms 0: for ever), which the caller owns.  A refusal is a
 * failure.  -ENOENT: no such node runs.
 */
int control_ask(const char *run_directory, const char *name, json_t *request, unsigned timeout_ms,
                json_t **ret_answer, struct drafter_error *err);

/* In two steps: the answer is there, or the node is gone, when *ret_fd can be read. */
int control_begin(const char *run_directory, const char *name, json_t *request, int *ret_fd,
                  struct drafter_error *err);
int control_finish(int fd, const char *name, json_t **ret_answer, struct drafter_error *err);

/*
 * The request that `drafter ctl COMMAND [ARGUMENT]` makes; the argument may be NULL.  The caller owns it.
 */
int control_request(const char *command, const char *argument, json_t **ret_request,
                    struct drafter_error *err);

/*
 * Makes the VM migratable (at `address`, or NULL) and waits for the end of its move: as control_begin(), and the
 * answer of control_finish() goes to control_outcome(): 0 it moved, -ECANCELED it stayed, -EINPROGRESS it moved in
 * part.  *ret_opened says where it can be taken over.
 */
int control_migrate(const char *run_directory, const char *name, const char *address,
                    unsigned timeout_ms, int *ret_fd, json_t **ret_opened, struct drafter_error *err);
int control_outcome(const json_t *answer, const char *name, struct drafter_error *err);

/* The names of all control sockets in the directory, sorted, as an array that the caller owns. */
int control_list(const char *run_directory, json_t **ret_names, struct drafter_error *err);

#endif
