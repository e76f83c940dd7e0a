/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's CPU, as far as two hosts must agree on it. */
#ifndef VMM_CPU_H
#define VMM_CPU_H

#include <drafter/common.h>

/* What the host's CPU is called and a hash of the features that a guest of KVM sees. */
void cpu_host(char *name, size_t size, uint64_t *ret_features);

/* FNV-1a, to be chained; begin with 0. */
uint64_t cpu_hash(uint64_t hash, const void *data, size_t length);

#endif
