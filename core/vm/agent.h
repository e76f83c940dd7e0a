/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's end of the guest channels.  Messages are JSON objects, as the original's agent has them
 * (panrpc over a stream); either side may call:
 *   -> {"request":{"call":"ID","function":"BeforeSuspend","args":[]},"response":null}
 *   <- {"request":null,"response":{"call":"ID","value":null,"err":""}}
 * The original's ends the connection when it does not know the function or its number of arguments, so
 * there are none that it lacks; what else our own agent is told are further members of the request, which
 * the original ignores.
 */
#ifndef VM_AGENT_H
#define VM_AGENT_H

#include "plugin/vmm.h"

/*
 * Calls a function of the guest's agent over the byte stream `fd` and waits for its answer.  With
 * `seed` (hexadecimal, or NULL) the guest learns it and the time.  -ETIMEDOUT when no answer came;
 * -EREMOTEIO with the guest's text when its hook failed.  What the guest calls is refused; whatever else
 * it sends is skipped, within bounds.
 */
int agent_call(int fd, const char *function, const char *seed, unsigned timeout_ms,
               struct drafter_error *err);

/* Opens a channel of the VM; waits until `deadline` for a guest that has to come by itself. */
int agent_channel(struct instance *vmm, const char *name, uint64_t deadline, int *ret_fd,
                  struct drafter_error *err);

/* The same call on a channel of its own; tries again on another when it was a dead one. */
int agent_hook(struct instance *vmm, const char *function, const char *seed, unsigned timeout_ms,
               struct drafter_error *err);

/* Waits until the guest says anything at all on its liveness channel. */
int liveness_wait(int fd, unsigned timeout_ms, struct drafter_error *err);

#endif
