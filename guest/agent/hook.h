/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef GUEST_AGENT_HOOK_H
#define GUEST_AGENT_HOOK_H

#include <stddef.h>
#include <stdint.h>

/*
 * Runs `shell -c command` with its output on our stderr and waits for it. A hook that takes longer
 * than timeout_ms (0: no limit) is killed with all it started. Returns 0, or -1 with the reason in
 * ret_reason, worded as the original words it ("exit status 3", "signal: killed"). SIGCHLD must be
 * blocked.
 */
int hook_run(const char *shell, const char *command, int64_t timeout_ms, char *ret_reason,
             size_t size);

#endif
