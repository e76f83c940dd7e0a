/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A drafter's end of its holder (main.c): what is put there outlives this process.
 *
 * Names are paths of a kind: what the core keeps begins with "core/", what a plugin instance keeps with
 * "KIND/ID/".  A holder that does not exist is a valid one that keeps nothing.
 */
#ifndef HOLDER_HOLDER_H
#define HOLDER_HOLDER_H

#include <drafter/plugin.h>

struct holder;

/* Makes one that keeps nothing. */
int holder_new(struct holder **ret_holder, struct drafter_error *err);

/* Lets go of it: it goes on if it has a VM.  NULL is allowed. */
void holder_free(struct holder *holder);

/*
 * Starts a holder, in a thread of its own: the caller goes on while it starts.  `directory` is the
 * node's, `lock` a descriptor of it, which the holder keeps, too.
 */
int holder_start(struct holder *holder, const char *directory, int lock, struct drafter_error *err);

/*
 * Looks for the holder that a dead drafter left in `directory` and takes all that it has; waits until
 * nothing of that drafter runs any more.  -ENOENT: there is none.  -EBUSY: its drafter lives.
 */
int holder_adopt(struct holder *holder, const char *directory, struct drafter_error *err);

bool holder_active(const struct holder *holder);  /* it was started or adopted */
bool holder_adopted(const struct holder *holder); /* it was adopted: what was kept can be taken */

/* Kills what it started and ends it.  Afterwards it keeps nothing. */
void holder_end(struct holder *holder);

/* Whether what it has is to wait for a successor of this process; at first it is not. */
int holder_worth(struct holder *holder, bool worth);

/* As the operations of struct drafter_keeper. */
int holder_put(struct holder *holder, const char *name, int fd);
int holder_take(struct holder *holder, const char *name, int *ret_fd);
int holder_memory(struct holder *holder, const char *name, size_t size, void **ret_memory,
                  bool *ret_found);
int holder_spawn(struct holder *holder, const struct drafter_spawn *spawn, pid_t *ret_pid,
                 int *ret_pidfd, struct drafter_error *err);
int holder_status(struct holder *holder, pid_t pid, int *ret_status);

/* The drafter of the holder in `directory` (0: it has none), and how often it was adopted. */
int holder_who(const char *directory, pid_t *ret_pid, int *ret_adoptions, struct drafter_error *err);

#endif
