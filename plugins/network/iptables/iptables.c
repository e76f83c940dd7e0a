/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots with iptables, of either world (nft, legacy): chains of the pool's own in the host's namespace,
 * rules in the kernel's chains in each slot's.  Every change of a family is one call of
 * iptables-restore --noflush, which is one transaction for each table.
 */
#include "iptables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text in the making. */
struct script {
    FILE *out;
    char *text;
    size_t size;
};

static int script_open(struct script *script, struct drafter_error *err)
{
    memset(script, 0, sizeof(*script));
    script->out = open_memstream(&script->text, &script->size);
    return script->out ? 0 : drafter_error_set(err, ENOMEM, "iptables: no memory");
}

/* Runs it, if it is to be run, and frees it. */
static int script_run(struct script *script, bool wanted, const struct iptables_config *config,
                      enum layout_family_index family, int guard, const char *what,
                      struct drafter_error *err)
{
    int ret = 0;

    if (fclose(script->out) != 0)
        ret = drafter_error_set(err, ENOMEM, "iptables: no memory");
    else if (wanted)
        ret = iptables_restore(config, family, guard, what, script->text, err);
    free(script->text);
    return ret;
}

static int host_apply(const void *opaque, const struct layout *layout,
                      const struct rules_forwards *forwards, int guard, struct drafter_error *err)
{
    const struct iptables_config *config = opaque;
    int ret = 0;

    for (int family = 0; ret == 0 && family < LAYOUT_FAMILIES; family++) {
        struct script script;
        char *saved = NULL;

        if (!layout->family[family].enabled)
            continue;
        if ((ret = iptables_save(config, family, &saved, err)) < 0)
            return ret;
        ret = script_open(&script, err);
        if (ret == 0) {
            iptables_write_host(script.out, layout, family, saved, forwards);
            ret = script_run(&script, true, config, family, guard, "rules of the host", err);
        }
        free(saved);
    }
    return ret;
}

static int host_forwards(const void *opaque, const struct layout *layout,
                         const struct rules_forwards *forwards, int guard,
                         struct drafter_error *err)
{
    const struct iptables_config *config = opaque;
    int ret = 0;

    for (int family = 0; ret == 0 && family < LAYOUT_FAMILIES; family++) {
        struct script script;

        if (!layout->family[family].enabled)
            continue;
        if ((ret = script_open(&script, err)) < 0)
            return ret;
        iptables_write_forwards(script.out, layout, family, forwards);
        ret = script_run(&script, true, config, family, guard, "forwards", err);
    }
    return ret;
}

static int host_remove(const void *opaque, const struct layout *layout, int guard,
                       struct drafter_error *err)
{
    const struct iptables_config *config = opaque;
    int ret = 0;

    for (int family = 0; ret == 0 && family < LAYOUT_FAMILIES; family++) {
        struct script script;
        char *saved = NULL;

        if (!layout->family[family].enabled)
            continue;
        if ((ret = iptables_save(config, family, &saved, err)) < 0)
            return ret;
        ret = script_open(&script, err);
        if (ret == 0)
            ret = script_run(&script, iptables_write_remove(script.out, layout, saved), config,
                             family, guard, "remove the rules of the host", err);
        free(saved);
    }
    return ret;
}

static int slot_apply(const void *opaque, const struct layout *layout, uint32_t slot,
                      struct drafter_error *err)
{
    const struct iptables_config *config = opaque;
    int ret = 0;

    for (int family = 0; ret == 0 && family < LAYOUT_FAMILIES; family++) {
        struct script script;

        if (!layout->family[family].enabled)
            continue;
        if ((ret = script_open(&script, err)) < 0)
            return ret;
        iptables_write_slot(script.out, layout, family, slot);
        ret = script_run(&script, true, config, family, -1, "rules of a slot", err);
    }
    return ret;
}

static const struct rules_backend backend = {
    .name = "iptables",
    .host_apply = host_apply,
    .host_forwards = host_forwards,
    .host_remove = host_remove,
    .slot_apply = slot_apply,
};

const char *const pool_outside_choices[] = {"host", "own", NULL};
static const char *const backend_choices[] = {"system", "nft", "legacy", NULL};

static const struct drafter_option iptables_options[] = {
    POOL_OPTIONS(struct iptables_config, pool),
    {.key = "iptables-backend", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct iptables_config, backend), .default_value = "system",
     .choices = backend_choices, .help = "which iptables-restore runs"},
    DRAFTER_OPTION_END,
};

static int try_rules(struct drafter_error *err)
{
    static const struct iptables_config config = {.backend = BACKEND_SYSTEM};

    return iptables_restore(&config, LAYOUT_V4, -1, "probe",
                            "*nat\n-A POSTROUTING -m devgroup --dst-group 0x1 -j MASQUERADE\n"
                            "COMMIT\n*raw\n-A PREROUTING -m rpfilter --invert -j DROP\nCOMMIT\n",
                            err);
}

static int iptables_probe(const void *config, struct drafter_probe *ret_probe)
{
    (void)config;
    return pool_probe(try_rules, ret_probe);
}

static int iptables_create(const struct drafter_context *context, const void *config,
                           void **ret_instance, struct drafter_error *err)
{
    const struct iptables_config *iptables = config;

    return pool_create(context, &backend, &iptables->pool, iptables, ret_instance, err);
}

static const struct drafter_plugin iptables_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_NETWORK, struct drafter_network_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "iptables",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "network namespaces behind NAT, by iptables",
    .options = iptables_options,
    .config_size = sizeof(struct iptables_config),
    .create = iptables_create,
    .destroy = pool_destroy,
    .probe = iptables_probe,
    .ops = &pool_ops,
};
DRAFTER_PLUGIN_ENTRY(iptables_plugin)
