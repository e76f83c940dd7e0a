/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef NETWORK_NULL_H
#define NETWORK_NULL_H

#include <drafter/network.h>

struct null_config {
    uint64_t slots;
    uint64_t fail_claim_at;
};

/* The core serializes: at most one thread is in an instance. */
struct null {
    const struct null_config *config;
    struct null_slot *first;
    struct null_forward *forwards;
    uint64_t taken, claims;
};

int null_forward_add(void *instance, const struct drafter_network_forward *forwards, size_t count,
                     struct drafter_error *err);
int null_forward_remove(void *instance, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err);
int null_forward_list(void *instance, drafter_network_forward_fn *each, void *context,
                      struct drafter_error *err);
void null_forward_release(struct null *null);

#endif
