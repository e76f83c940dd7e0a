/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest must do anew after it was resumed. */
#ifndef GUEST_AGENT_RENEW_H
#define GUEST_AGENT_RENEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets the clock to the host's, given in ns since 1970. Returns 0 or an errno; how far it was behind. */
int renew_clock(int64_t host_ns, int64_t *ret_skew_ns);

/*
 * Makes the kernel's random numbers differ from those of other guests of the same snapshot: adds what the
 * host gave in hexadecimal, and what only this instant has. Returns whether the host's was enough and taken.
 */
bool renew_entropy(const char *hex, size_t length);

#endif
