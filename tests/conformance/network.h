/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the network suite share. */
#ifndef NETWORK_H
#define NETWORK_H

#include "conformance.h"
#include "plugin/network.h"

#include <netinet/in.h>

extern const char *network_plugin;
extern int network_kills; /* of makers, at random moments */

/* An instance, changed by overrides (key, value, ..., NULL; may be NULL). */
struct instance *network_make(const char *const *overrides);
int network_try(const char *const *overrides, struct instance **ret_instance,
                struct drafter_error *err);

void network_open(struct instance *network);
void network_shut(struct instance *network);
struct drafter_network_slot network_take(struct instance *network, const char *name,
                                         const char *owner);
struct drafter_network_forward network_forward(const char *slot, uint8_t protocol,
                                               const char *address, uint16_t port);

void network_add_claims(Suite *suite, bool with_pool);
void network_add_options(Suite *suite);
void network_add_pool(Suite *suite);
void network_add_traffic(Suite *suite);
void network_add_forwards(Suite *suite);
void network_add_crash(Suite *suite);

#endif
