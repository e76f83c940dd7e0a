/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/role.h"

#include "config/flags.h"
#include "config/suggest.h"
#include "config/table.h"
#include "options.h"
#include "plugin/plugin.h"
#include "role/forwarder.h"
#include "role/name.h"
#include "role/nat.h"
#include "role/packager.h"
#include "role/peer-roles.h"
#include "role/peer.h"
#include "role/registry.h"
#include "role/snapshotter.h"
#include "role/tables.h"

#include <sodium.h>
#include <string.h>

struct role {
    const char *name;
    int (*run)(struct node *node, struct drafter_error *err);
    bool bare;             /* it can run on its defaults alone, and is named like itself */
    /* `drafter ROLE status`, beside one that runs; NULL: there is no such thing */
    int (*status)(struct node *node, bool json, struct drafter_error *err);
    bool no_place; /* it keeps nothing in the run-directory: any number may run at a time */
};

static const struct role roles[] = {
    {"peer", peer_run, false, NULL, false},
    {"registry", registry_run, false, NULL, false},
    {"snapshotter", snapshotter_run, false, NULL, false},
    {"nat", nat_run, true, nat_status, false},
    {"forwarder", forwarder_run, true, NULL, false},
    {"packager", packager_run, true, NULL, true},
    {"runner", runner_run, false, NULL, false},
    {"mounter", mounter_run, false, NULL, false},
    {"terminator", terminator_run, false, NULL, false},
};
enum { ROLE_COUNT = sizeof(roles) / sizeof(roles[0]) };

const char *const role_names[] = {"peer", "registry", "snapshotter", "nat", "forwarder",
                                  "packager", "runner",    "mounter",     "terminator", NULL};

int role_unknown(const char *name, struct drafter_error *err)
{
    const char *nearest = suggest_nearest(name, role_names, ROLE_COUNT);
    char list[256];

    if (nearest)
        return drafter_error_set(err, EINVAL, "unknown role '%s'; did you mean '%s'?", name, nearest);
    return drafter_error_set(err, EINVAL, "unknown role '%s'; it can be %s", name,
                             role_list(list, sizeof(list)));
}

const char *role_list(char *buffer, size_t size)
{
    size_t used = 0;

    for (unsigned i = 0; i < ROLE_COUNT && used < size; i++) {
        const char *between = i == 0 ? "" : i + 1 < ROLE_COUNT ? ", " : " or ";
        int length = snprintf(buffer + used, size - used, "%s%s", between, roles[i].name);

        used += length > 0 ? (size_t)length : 0;
    }
    return buffer;
}

static const struct role *find_role(const char *name, struct drafter_error *err)
{
    char list[256];

    for (unsigned i = 0; name && i < ROLE_COUNT; i++)
        if (!strcmp(roles[i].name, name))
            return &roles[i];
    if (name)
        role_unknown(name, err);
    else
        drafter_error_set(err, EINVAL, "no role is named; add role = to [drafter]: %s",
                          role_list(list, sizeof(list)));
    return NULL;
}

/* The command line wins where it says something else than its defaults. */
static void adopt_log_options(const struct options *options, const struct node_options *node)
{
    log_setup(options->log_format == LOG_FORMAT_AUTO ? (enum log_format)node->log_format
                                                     : options->log_format,
              options->log_level == DRAFTER_LOG_INFO ? (enum drafter_log_level)node->log_level
                                                     : options->log_level);
}

/* The option table of a plugin, which stays loaded until release_flags. */
static const struct drafter_option *plugin_options(void *opaque, const char *kind, const char *name)
{
    struct plugin **plugin = opaque;
    enum drafter_kind number;

    plugin_unload(*plugin);
    *plugin = NULL;
    if (plugin_kind_parse(kind, &number) < 0 || plugin_load(number, name, plugin, NULL))
        return NULL; /* whoever uses it says why */
    return (*plugin)->descriptor.options;
}

/* A role that runs a VM has the options of its VMM as flags. */
static struct config_flags flags_of(const struct role *role, struct plugin **plugin)
{
    const struct role_table *table = role_table_find(role->name);
    const char *vmm = plugin_kind_name(DRAFTER_KIND_VMM);

    *plugin = NULL;
    return (struct config_flags){.role = role->name,
                                 .name = role->bare ? role->name : NULL,
                                 .options = table->options,
                                 .node = node_option_table,
                                 .flags = table->flags,
                                 .plugin_kind = table_find(table->options, vmm) ? vmm : NULL,
                                 .plugin_options = plugin_options,
                                 .opaque = plugin,
                                 .bare = table->bare};
}

void role_show_flags(const char *role, config_flag_fn *show, void *opaque)
{
    struct plugin *plugin;
    const struct config_flags flags = flags_of(find_role(role, NULL), &plugin);

    config_show_flags(&flags, show, opaque);
    config_show_plugin_flags(&flags, show, opaque);
    plugin_unload(plugin);
}

static void print_flag(void *opaque, const struct config_shown *flag)
{
    const char *value = flag->default_value;

    (void)opaque;
    printf("  --%-32s %s%s%s%s\n      %s\n", flag->name, flag->type, value ? " (default " : "",
           value ? value : "", value ? ")" : "", flag->help ? flag->help : "");
}

/* The heading comes with the first flag, if there is any. */
static void print_plugin_flag(void *opaque, const struct config_shown *flag)
{
    bool *headed = opaque;

    if (!*headed)
        printf("\nFlags of the VMM plugin, here the default one:\n");
    *headed = true;
    print_flag(NULL, flag);
}

void role_print_help(const char *role)
{
    bool headed = false;
    struct plugin *plugin;
    const struct config_flags flags = flags_of(find_role(role, NULL), &plugin);

    printf("Usage: drafter %s [--config FILE] [FLAGS]\n\n%s: %s.\n\n"
           "Flags, with one or two dashes:\n",
           role, role, role_table_find(role)->summary);
    config_show_flags(&flags, print_flag, NULL);
    config_show_plugin_flags(&flags, print_plugin_flag, &headed);
    printf("\nKeys of plugins are listed by drafter plugins NAME; see also drafter --help.\n");
    plugin_unload(plugin);
}

static int load(const struct options *options, struct config **ret_config,
                struct drafter_error *err)
{
    int rc;

    if (!options->config) {
        *ret_config = config_new("command line");
        return *ret_config ? 0 : drafter_error_set(err, ENOMEM, "out of memory");
    }
    rc = config_load(options->config, ret_config, err);
    if (rc) /* a directory, or a file that is too long: no configuration */
        return rc == -ENOENT || rc == -EACCES ? rc : -EINVAL;
    return 0;
}

/* The role that was asked for, or that the file names. */
static const struct role *choose(const char *name, const struct config *config,
                                 struct drafter_error *err)
{
    const struct config_section *section = config_section(config, "drafter", "");
    const struct role *role;

    if (!name && section)
        name = config_value(section, "role");
    role = find_role(name, err);
    if (!role && section)
        drafter_error_wrap(err, "%s", config_where(section, name ? "role" : NULL));
    return role;
}

/* Such roles exclude each other where their files are the same; others read them beside one another. */
static bool changes_files(const struct role *role)
{
    const struct drafter_option *options = role_table_find(role->name)->options;

    return table_find(options, "vmm") || table_find(options, "connect");
}

static int configure(const struct role *role, struct config *config, char *const *flags,
                     struct drafter_error *err)
{
    struct plugin *plugin;
    const struct config_flags known = flags_of(role, &plugin);
    const struct config_section *section;
    int rc = config_set_flags(config, &known, flags, err);

    plugin_unload(plugin);
    section = config_section(config, "drafter", "");
    if (!rc && role->bare && (!section || !config_value(section, "name")))
        rc = config_set(config, "drafter", "", "name", role->name, err);
    if (!rc && role_table_find(role->name)->has_vm)
        rc = role_default_name(config, changes_files(role) ? "vm" : role->name, err);
    return rc;
}

int role_config(const char *name, const struct options *options, char *const *flags,
                struct config **ret_config, struct drafter_error *err)
{
    struct config *config;
    const struct role *role;
    int rc = load(options, &config, err);

    if (rc)
        return rc;
    role = choose(name, config, err);
    rc = role ? configure(role, config, flags, err) : -EINVAL;
    if (!rc)
        rc = config_set(config, "drafter", "", "role", role->name, err);
    if (rc) {
        config_free(config);
        return rc;
    }
    *ret_config = config;
    return 0;
}

int role_run(const char *name, const struct options *options, struct drafter_error *err)
{
    const struct role *role = name ? find_role(name, err) : NULL;
    char *const *flags = options->rest;
    struct config *config;
    struct node node;
    bool status = role && role->status && *flags && !strcmp(*flags, "status");
    int rc;

    if (name && !role)
        return -EINVAL;
    if (sodium_init() < 0)
        return drafter_error_set(err, EIO, "libsodium does not start");
    rc = role_config(name, options, flags + status, &config, err);
    if (rc)
        return rc;
    role = find_role(config_value(config_section(config, "drafter", ""), "role"), err);
    rc = status || role->no_place ? node_look(config, &node, err)
                                            : node_open(config, &node, err);
    if (rc)
        return rc;
    adopt_log_options(options, &node.options);
    if (node.left && role->run != peer_run && role->run != runner_run)
        rc = drafter_error_set(err, EBUSY, "%s: a VM whose drafter died is there; start that again",
                               node.directory);
    else
        rc = status ? role->status(&node, options->json, err) : role->run(&node, err);
    node_close(&node);
    return rc;
}
