/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pool of slots, seen from one instance of a plugin: maker of the pool, or user of one that another
 * process made.  The plugins put their rules and their options to this.
 *
 * Order of locks: TABLE_LOCK_RULES, then table_lock.  The first is held across a change of forwards,
 * so that each change is made from all the forwards there are; the second only while records are read
 * or written.  One thread at a time is in an instance.
 */
#ifndef NETWORK_POOL_H
#define NETWORK_POOL_H

#include "netlink.h"
#include "rules.h"
#include "table.h"

struct pool {
    const struct pool_config *config;
    const void *plugin_config;
    const struct rules_backend *backend;
    const struct drafter_keeper *keeper; /* or NULL: a claim ends with the process */
    struct layout layout; /* as configured; the one in use is in the table */
    struct table table;
    bool maker;
    struct drafter_network_hooks hooks;
    /* What this instance holds, a bit each. */
    uint64_t slots[POOL_SLOTS_MAX / 64], forwards[TABLE_FORWARDS_MAX / 64];
};

/* For the plugins: their operations.  `pool` is within the plugin's configuration `config`. */
int pool_create(const struct drafter_context *context, const struct rules_backend *backend,
                const struct pool_config *pool_config, const void *config, void **ret_instance,
                struct drafter_error *err);
void pool_destroy(void *instance);
extern const struct drafter_network_ops pool_ops;

/* The plugins' probe; `rules` tries to put a rule into the thread's namespace. */
int pool_probe(int (*rules)(struct drafter_error *err), struct drafter_probe *ret_probe);

/* claim.c */
int pool_claim(void *instance, const char *name, const char *owner,
               struct drafter_network_slot *ret_slot, struct drafter_error *err);
int pool_adopt(void *instance, const char *owner, struct drafter_network_slot *ret_slot,
               struct drafter_error *err);
void pool_release(void *instance, const struct drafter_network_slot *slot);
int pool_list(void *instance, drafter_network_slot_fn *each, void *context,
              struct drafter_error *err);
int pool_reclaim(void *instance, size_t *ret_count, struct drafter_error *err);
void pool_release_all(struct pool *pool);

/* presence.c */
int pool_announce(void *instance, const struct drafter_network_slot *slot,
                  struct drafter_error *err);
int pool_withdraw(void *instance, const struct drafter_network_slot *slot,
                  struct drafter_error *err);
/* The host no longer answers for a slot, whose lock this instance has. */
int pool_silence(struct pool *pool, uint32_t slot, struct drafter_error *err);

/* pool-forward.c */
int pool_forward_add(void *instance, const struct drafter_network_forward *forwards, size_t count,
                     struct drafter_error *err);
int pool_forward_remove(void *instance, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err);
int pool_forward_list(void *instance, drafter_network_forward_fn *each, void *context,
                      struct drafter_error *err);
int pool_forward_remove_all(struct pool *pool, struct drafter_error *err);
/* Removes those whose owners have ended. */
int pool_forward_reclaim(struct pool *pool, size_t *ret_count, struct drafter_error *err);
/*
 * Fits the links of slots that were made anew to the forwards that stayed, and opens the pool.  With `rules`
 * also the rules, which forwards that went meanwhile have left.
 */
int pool_forward_settle(struct pool *pool, bool rules, struct drafter_error *err);
/* What the rules have to be, from the records; the caller has table_lock and frees `items`. */
int pool_forward_collect(const struct pool *pool, struct rules_forwards *ret_forwards,
                         struct drafter_error *err);

/* pool-open.c, pool-remove.c, pool-make.c, host.c */
int pool_open(void *instance, const struct drafter_network_hooks *hooks,
              struct drafter_error *err);
int pool_close(void *instance, struct drafter_error *err);
int pool_remove(struct pool *pool, bool keep_live, struct drafter_error *err);
int pool_make(struct pool *pool, struct drafter_error *err);
int host_resolve(struct layout *layout, struct drafter_error *err);
int host_check(const struct layout *layout, const struct table_file *made,
               struct drafter_error *err);
int host_prepare(const struct pool *pool, struct drafter_error *err);
/* Sets back what pools changed, when this is the last one `here`; removes its file, if nothing else is left of it. */
int host_leave(struct pool *pool, bool here, bool whole, struct drafter_error *err);
int host_identity(uint64_t ret_netns[2], struct drafter_error *err);

/* Opens the table of the pool, if it is not open; ENOENT when there is no pool. */
int pool_attach(struct pool *pool, struct drafter_error *err);
/* Whether the pool can be used; the caller has table_lock. */
int pool_usable(const struct pool *pool, struct drafter_error *err);

static inline struct table_header *pool_header(const struct pool *pool)
{
    return &pool->table.file->header;
}

static inline bool pool_bit(const uint64_t *bits, uint32_t number)
{
    return bits[number / 64] >> number % 64 & 1;
}

static inline void pool_set_bit(uint64_t *bits, uint32_t number, bool on)
{
    uint64_t bit = UINT64_C(1) << number % 64;

    bits[number / 64] = on ? bits[number / 64] | bit : bits[number / 64] & ~bit;
}

/* Whether a slot or forward has a holder that lives, this instance included. */
static inline bool pool_slot_live(const struct pool *pool, uint32_t slot)
{
    return pool->table.file->slots[slot].pid &&
           (pool_bit(pool->slots, slot) || table_taken(&pool->table, TABLE_LOCK_SLOT, slot));
}

static inline bool pool_forward_live(const struct pool *pool, uint32_t number)
{
    return pool->table.file->forwards[number].used &&
           (pool_bit(pool->forwards, number) ||
            table_taken(&pool->table, TABLE_LOCK_FORWARD, number));
}

#endif
