/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libdrafter: nodes of drafter as children of another program, which starts VMs, moves and stops them.
 * libdrafter(3) has an example.  Link with `pkg-config --libs libdrafter`.
 *
 * A node is a process `drafter` with a role.  The library starts it, reads its log, asks it by its control socket and
 * waits for its end; it loads no plugin and runs no VM in the calling process, which a VM therefore survives.
 *
 * Any thread may call any function here, drafter_node_free() apart, which must be the last for its node.  Callbacks
 * come from one thread of the library for each node; there, what waits fails with -EDEADLK.  The library has no
 * global state, installs no signal handler, leaves signal masks alone, and all its descriptors are close-on-exec.
 *
 * Of common.h this needs struct drafter_error and constants; the functions there are for plugins alone.
 */
#ifndef DRAFTER_EMBED_H
#define DRAFTER_EMBED_H

#include <drafter/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For a timeout_ms that never passes; 0 only looks. */
#define DRAFTER_FOREVER 0xffffffffu

/* The longest line of a log, with its NUL; what is longer is cut, and is then no JSON. */
#define DRAFTER_EVENT_MAX 8192

struct drafter_node;

/* A line of a node's log. */
struct drafter_event {
    uint64_t number; /* of the line, from 1 */
    char name[DRAFTER_NAME_MAX + 1]; /* of an event ("resumed"); "": a log record */
    enum drafter_log_level level;
    bool json; /* false: it is some other text, as libraries and dynamic linkers write */
    char text[DRAFTER_EVENT_MAX]; /* the line without its end, see drafter_json_text() */
};

struct drafter_node_options {
    uint32_t struct_size; /* sizeof(struct drafter_node_options) */

    /* NULL: "drafter".  Looked up in PATH unless it has a slash. */
    const char *program;

    /* The text of a configuration, see drafter.conf(5); or NULL. */
    const char *config;

    /* Arguments, up to a NULL: {"--config", "node.ini", NULL}, say.  Or NULL. */
    const char *const *arguments;

    /*
     * Called with each line of the log, in order; optional.  The event is borrowed.  The node waits when its log is
     * not read: return soon.
     */
    void (*event)(void *opaque, const struct drafter_event *event);

    /*
     * Called once, when the process has ended and its log was read; optional.  `exit_status` as
     * drafter_node_exit_status().
     */
    void (*ended)(void *opaque, int exit_status);

    void *opaque; /* for the callbacks */
};

/*
 * Starts a node: 0 when the program runs, which need not like its configuration.  Everything in `options` is copied.
 * Its standard input and output are /dev/null, its environment is the caller's, its process group its own.
 */
int drafter_node_start(const struct drafter_node_options *options, struct drafter_node **ret_node,
                       struct drafter_error *err);

/*
 * Waits for an event called `name` whose number is above `after`; after = 0: since the start.  Of several the last
 * one, so that what happened before the call is not missed.  -ETIMEDOUT: not yet.  When the node ends first, as
 * drafter_node_wait(), and -ESHUTDOWN in place of 0.  `ret_event` may be NULL.
 */
int drafter_node_await(struct drafter_node *node, const char *name, uint64_t after, unsigned timeout_ms,
                       struct drafter_event *ret_event, struct drafter_error *err);

/*
 * Does what `drafter ctl COMMAND [ARGUMENT]` does: status, migratable, cancel, snapshot, suspend, resume, stop; see
 * drafter(8).  `argument` may be NULL.  *ret_answer is a JSON object, which the caller passes to free(); `ret_answer`
 * may be NULL.  Waits for the node's control socket first; -ETIMEDOUT when there is none or no answer came.
 */
int drafter_node_ask(struct drafter_node *node, const char *command, const char *argument,
                     unsigned timeout_ms, char **ret_answer, struct drafter_error *err);

/*
 * Makes the VM migratable, at `address` or, with NULL, at the configuration's, and waits until a node that connects
 * there has taken it over: 0.  -ECANCELED: the move failed and the VM runs on here.  -EINPROGRESS: it runs there, and
 * not all of it was sent.  -ETIMEDOUT: it has not ended, and can still happen; ask "cancel", or "migratable" "--off".
 * The node ends when the VM has moved: drafter_node_wait().
 */
int drafter_node_migrate(struct drafter_node *node, const char *address, unsigned timeout_ms,
                         struct drafter_error *err);

/*
 * Waits for the end of the process: 0 when its exit status was 0.  Else its last error and -EINVAL (2, see drafter(8)),
 * -ENOENT (3), -EACCES (4), -EBUSY (5), -ECONNABORTED (6), -ECANCELED (7), -EINPROGRESS (8), or -EIO.
 * -ECHILD: it ended, and somebody else in this process took its status.  -ETIMEDOUT: it runs.
 */
int drafter_node_wait(struct drafter_node *node, unsigned timeout_ms, struct drafter_error *err);

/*
 * Asks for the end in good order (SIGTERM), and then as drafter_node_wait().  A VM is saved into its files; while it
 * cannot be, or is being handed over, it runs on: that is -ETIMEDOUT, and nothing is killed.
 */
int drafter_node_stop(struct drafter_node *node, unsigned timeout_ms, struct drafter_error *err);

/*
 * SIGKILL; 0 when it has ended, whatever its status.  For a node that does not end: its VM runs on in
 * its holder, and goes on with the next node of the same configuration.
 */
int drafter_node_kill(struct drafter_node *node, struct drafter_error *err);

/* Of the process; it may have ended. */
pid_t drafter_node_pid(const struct drafter_node *node);

/* As a shell has it: 0 to 255, 128 + N for signal N; -1 while it runs, or when nobody knows. */
int drafter_node_exit_status(struct drafter_node *node);

/*
 * Releases the handle; NULL is allowed.  A process that runs goes on without anybody who reads its log, and is the
 * caller's to wait for: call drafter_node_stop() before.  Not from a callback.
 */
void drafter_node_free(struct drafter_node *node);

/*
 * What is at `path` in a JSON object: "vm", or "migration.phase" for an object in it.  -ENOENT: nothing of that
 * type; -EINVAL: it is no JSON; -ENOSPC: `buffer` is too small.
 */
int drafter_json_text(const char *json, const char *path, char *buffer, size_t size);
int drafter_json_number(const char *json, const char *path, double *ret_number);

#ifdef __cplusplus
}
#endif

#endif
