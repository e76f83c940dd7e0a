/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's end of the guest channels.  Messages to the agent are JSON objects, one a line:
 *   -> {"request":{"call":"ID","function":"BeforeSuspend","args":[...]}}
 *   <- {"response":{"call":"ID","value":null,"err":""}}
 * They are what the original's agent speaks.
 */
#ifndef VM_AGENT_H
#define VM_AGENT_H

#include <drafter/common.h>

/*
 * Calls a function of the guest's agent over the byte stream `fd` and waits for its answer.  `argument`
 * is a JSON value or NULL.  -ETIMEDOUT when no answer came; -EREMOTEIO with the guest's text when its
 * hook failed.  Whatever else the guest sends is skipped, within bounds.
 */
int agent_call(int fd, const char *function, const char *argument, unsigned timeout_ms,
               struct drafter_error *err);

/* Waits until the guest says anything at all on its liveness channel. */
int liveness_wait(int fd, unsigned timeout_ms, struct drafter_error *err);

#endif
