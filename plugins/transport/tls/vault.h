/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locked memory for the secrets of connections.  libsodium surrounds each piece of it with guard pages, two
 * of which are in memory, too; for something as small as this, and for peers that are not even known, that
 * is dear.  So several connections share a piece.
 */
#ifndef TLS_VAULT_H
#define TLS_VAULT_H

#include "handshake.h"

#include <pthread.h>
#include <stdatomic.h>

struct tls_slab;

struct tls_vault {
    pthread_mutex_t lock;
    struct tls_slab *slabs; /* lock; those with room and those without */
    atomic_bool told;       /* that memory cannot be locked */
};

void tls_vault_init(struct tls_vault *vault);
void tls_vault_release(struct tls_vault *vault); /* everything was given back */

/*
 * Locks memory of libsodium's, which does so too, but goes on without a word where that fails: here the first
 * failure is logged.  Any thread.
 */
void tls_vault_lock(struct tls_vault *vault, void *memory, size_t size);

/* Zeroed secrets, or NULL when there is no memory.  Any thread. */
struct tls_secrets *tls_vault_take(struct tls_vault *vault);

/* Wipes them.  NULL is allowed.  Any thread. */
void tls_vault_give_back(struct tls_vault *vault, struct tls_secrets *secrets);

#endif
