/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots with nftables: a table of the pool's own in the host's namespace, whose rules know VMs by the
 * group of their links and forwards by maps, so that there are as many rules for a thousand VMs as for
 * one; and a table in each slot's namespace.
 *
 * Every change is one buffer of commands, which the library turns into one transaction.
 */
#include "nftables.h"

#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library numbers lines of our buffer; the operator has never seen them. */
static int tell(struct nft_ctx *context, const char *what, struct drafter_error *err)
{
    const char *message = nft_ctx_get_error_buffer(context);
    const char *begin = message ? strstr(message, "Error: ") : NULL;
    int length;

    begin = begin ? begin + strlen("Error: ") : message ? message : "";
    length = (int)strcspn(begin, "\n");
    return drafter_error_set(err, EIO, "nftables: %s: %.*s", what, length, begin);
}

/* A context speaks with the namespace of the thread that made it. */
static int run(const char *what, const char *commands, struct drafter_error *err)
{
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    int ret = 0;

    if (!context)
        return drafter_error_set(err, ENOMEM, "nftables: no memory");
    nft_ctx_buffer_error(context);
    nft_ctx_buffer_output(context);
    if (nft_run_cmd_from_buffer(context, commands) != 0)
        ret = tell(context, what, err);
    nft_ctx_free(context);
    return ret;
}

typedef void write_fn(FILE *out, const struct layout *layout, const void *argument);

static int run_written(const char *what, write_fn *write, const struct layout *layout,
                       const void *argument, struct drafter_error *err)
{
    char *commands = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&commands, &size);
    int ret;

    if (!out)
        return drafter_error_set(err, ENOMEM, "nftables: no memory");
    write(out, layout, argument);
    if (fclose(out) != 0)
        ret = drafter_error_set(err, ENOMEM, "nftables: no memory");
    else
        ret = run(what, commands, err);
    free(commands);
    return ret;
}

static int host_apply(const void *config, const struct layout *layout,
                      const struct rules_forwards *forwards, int guard, struct drafter_error *err)
{
    (void)config;
    (void)guard; /* no other program runs */
    return run_written("rules of the host", nftables_write_host, layout, forwards, err);
}

static int host_forwards(const void *config, const struct layout *layout,
                         const struct rules_forwards *forwards, int guard,
                         struct drafter_error *err)
{
    (void)config;
    (void)guard; /* no other program runs */
    return run_written("forwards", nftables_write_forwards, layout, forwards, err);
}

static int host_remove(const void *config, const struct layout *layout, int guard,
                       struct drafter_error *err)
{
    (void)config;
    (void)guard;
    return run_written("remove the rules of the host", nftables_write_remove, layout, NULL, err);
}

static int slot_apply(const void *config, const struct layout *layout, uint32_t slot,
                      struct drafter_error *err)
{
    (void)config;
    return run_written("rules of a slot", nftables_write_slot, layout, &slot, err);
}

static const struct rules_backend backend = {
    .name = "nftables",
    .host_apply = host_apply,
    .host_forwards = host_forwards,
    .host_remove = host_remove,
    .slot_apply = slot_apply,
};

const char *const pool_outside_choices[] = {"host", "own", NULL};

static const struct drafter_option nftables_options[] = {
    POOL_OPTIONS(struct nftables_config, pool),
    DRAFTER_OPTION_END,
};

static int try_rules(struct drafter_error *err)
{
    return run("probe", "table inet drafter_probe { chain nat { type nat hook postrouting priority "
                        "srcnat; masquerade; }; }\n",
               err);
}

static int nftables_probe(const void *config, struct drafter_probe *ret_probe)
{
    (void)config;
    return pool_probe(try_rules, ret_probe);
}

static int nftables_create(const struct drafter_context *context, const void *config,
                           void **ret_instance, struct drafter_error *err)
{
    const struct nftables_config *nftables = config;

    return pool_create(context, &backend, &nftables->pool, nftables, ret_instance, err);
}

static const struct drafter_plugin nftables_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_NETWORK, struct drafter_network_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "nftables",
    .version = "1.0",
    .license = "BSD-2-Clause AND GPL-2.0-only",
    .summary = "network namespaces behind NAT, by nftables",
    .options = nftables_options,
    .config_size = sizeof(struct nftables_config),
    .create = nftables_create,
    .destroy = pool_destroy,
    .probe = nftables_probe,
    .ops = &pool_ops,
};
DRAFTER_PLUGIN_ENTRY(nftables_plugin)
