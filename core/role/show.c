/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter config`: what a command line or a file means, as a file. */
#include "command.h"

#include "options.h"
#include "plugin/plugin.h"
#include "role/node.h"
#include "role/role.h"
#include "role/tables.h"
#include "util/cleanup.h"

#include <stdio.h>
#include <string.h>

/* Values that a table knows to be no secrets are shown, and those it refuses are no configuration. */
static int apply(const struct config_section *section, const struct drafter_option *options,
                 const char *const *also, size_t size, struct drafter_error *err)
{
    cleanup_free void *target = calloc(1, size ? size : 1);

    if (!target)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return config_apply(section, options, also, target, size, err);
}

static int apply_plugin(enum drafter_kind kind, const struct config_section *section,
                        struct drafter_error *err)
{
    static const char *const also[] = {"plugin", "next", NULL};
    const char *name = config_value(section, "plugin");
    struct plugin *plugin;
    int rc;

    if (!name)
        return drafter_error_set(err, EINVAL, "%s: [%s:%s] names no plugin",
                                 config_where(section, NULL), section->kind, section->id);
    rc = plugin_load(kind, name, &plugin, err);
    if (rc)
        return rc;
    rc = apply(section, plugin->descriptor.options, also, plugin->descriptor.config_size, err);
    plugin_unload(plugin);
    return rc;
}

static int apply_section(const struct config_section *section, struct drafter_error *err)
{
    const struct role_table *table = role_table_find(section->kind);
    enum drafter_kind kind = DRAFTER_KIND_DEVICE;

    if (table)
        return apply(section, table->options, NULL, table->size, err);
    if (strcmp(section->kind, "exposure") != 0 && plugin_kind_parse(section->kind, &kind) < 0)
        return drafter_error_set(err, EINVAL, "%s: unknown section [%s]",
                                 config_where(section, NULL), section->kind);
    return apply_plugin(kind, section, err);
}

int command_config(const struct options *options, struct drafter_error *err)
{
    const char *role = options->rest[0];
    struct config *config;
    int rc;

    if (!role && !options->config)
        return drafter_error_set(err, EINVAL, "config needs a role with flags, or --config FILE");
    rc = role_config(role, options, role ? options->rest + 1 : options->rest, &config, err);
    if (rc)
        return rc;
    rc = config_check_kinds(config, node_section_kinds, err);
    for (const char *const *kind = node_section_kinds; *kind && !rc; kind++) {
        const struct config_section *section = NULL;

        while (!rc && (section = config_next(config, *kind, section)))
            rc = apply_section(section, err);
    }
    if (!rc)
        config_print(config, stdout);
    config_free(config);
    return rc;
}
