/* SPDX-License-Identifier: BSD-2-Clause */
#include "vault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_SIZE 16

struct tls_slab {
    struct tls_slab *next;
    struct tls_secrets *secrets; /* SLAB_SIZE of them, in locked memory */
    unsigned used;               /* a bit for each */
};

void tls_vault_init(struct tls_vault *vault)
{
    pthread_mutex_init(&vault->lock, NULL);
    vault->slabs = NULL;
    atomic_init(&vault->told, false);
}

void tls_vault_release(struct tls_vault *vault)
{
    pthread_mutex_destroy(&vault->lock);
}

void tls_vault_lock(struct tls_vault *vault, void *memory, size_t size)
{
    if (sodium_mlock(memory, size) && !atomic_exchange(&vault->told, true))
        drafter_log(DRAFTER_LOG_WARNING, "tls",
                    "memory cannot be locked, so keys may be swapped out: %s; raise ulimit -l", strerror(errno));
}

/* Called locked. */
static struct tls_slab *add_slab(struct tls_vault *vault)
{
    struct tls_slab *slab = calloc(1, sizeof(*slab));

    if (slab)
        slab->secrets = sodium_allocarray(SLAB_SIZE, sizeof(*slab->secrets));
    if (!slab || !slab->secrets) {
        free(slab);
        return NULL;
    }
    slab->next = vault->slabs;
    vault->slabs = slab;
    return slab;
}

struct tls_secrets *tls_vault_take(struct tls_vault *vault)
{
    struct tls_secrets *secrets = NULL;
    struct tls_slab *slab;
    bool added;

    pthread_mutex_lock(&vault->lock);
    slab = vault->slabs;
    while (slab && slab->used == (1u << SLAB_SIZE) - 1)
        slab = slab->next;
    added = !slab;
    if (added)
        slab = add_slab(vault);
    if (slab) {
        int place = __builtin_ctz(~slab->used);

        slab->used |= 1u << place;
        secrets = &slab->secrets[place];
    }
    pthread_mutex_unlock(&vault->lock);
    if (secrets && added)
        tls_vault_lock(vault, slab->secrets, SLAB_SIZE * sizeof(*slab->secrets));
    if (secrets)
        memset(secrets, 0, sizeof(*secrets));
    return secrets;
}

void tls_vault_give_back(struct tls_vault *vault, struct tls_secrets *secrets)
{
    struct tls_slab **at = &vault->slabs, *slab;

    if (!secrets)
        return;
    sodium_memzero(secrets, sizeof(*secrets));
    pthread_mutex_lock(&vault->lock);
    while (secrets < (*at)->secrets || secrets >= (*at)->secrets + SLAB_SIZE)
        at = &(*at)->next;
    slab = *at;
    slab->used &= ~(1u << (secrets - slab->secrets));
    if (!slab->used) {
        *at = slab->next;
        sodium_free(slab->secrets);
        free(slab);
    }
    pthread_mutex_unlock(&vault->lock);
}
