/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What only roles know: their option tables, which plugins they use and what they do with devices.
 * The tables are role/list.c's.
 */
#include "config/check.h"

#include "config/table.h"
#include "config/tree.h"
#include "role/forwarder.h"
#include "role/node.h"
#include "role/port.h"
#include "role/role.h"
#include "role/tables.h"
#include "trust/plain.h"
#include "util/cleanup.h"
#include "util/words.h"

#include <string.h>

/* The options of roles that name plugin instances. */
static const struct {
    const char *key;
    enum drafter_kind kind;
} references[] = {
    {"transport", DRAFTER_KIND_TRANSPORT},
    {"vmm", DRAFTER_KIND_VMM},
    {"exposure", DRAFTER_KIND_DEVICE},
    {"network", DRAFTER_KIND_NETWORK},
    {"storage", DRAFTER_KIND_STORAGE},
};

/* The string that the role's options hold for a key, or NULL. */
static const char *text_option(const struct role_table *role, const void *options, const char *key)
{
    const struct drafter_option *option = table_find(role->options, key);
    const char *text;

    if (!option || option->type != DRAFTER_OPTION_STRING)
        return NULL;
    memcpy(&text, (const char *)options + option->offset, sizeof(text));
    return text;
}

static void check_references(struct check *check, const struct config *config,
                             const struct role_table *role, const void *options)
{
    bool talks = text_option(role, options, "connect") || text_option(role, options, "listen");

    for (size_t i = 0; i < sizeof(references) / sizeof(*references); i++) {
        const char *id = text_option(role, options, references[i].key);

        if (id && (references[i].kind != DRAFTER_KIND_TRANSPORT || talks))
            check_reference(check, config, references[i].kind, id, true);
    }
}

/* The plugins below devices that are described by files. */
static void check_file_plugins(struct check *check, const struct config *config)
{
    const struct config_section *section = NULL;
    bool base = false, overlay = false;

    while ((section = config_next(config, "device", section))) {
        base |= config_value(section, "base") || config_value(section, "output");
        overlay |= config_value(section, "overlay") != NULL;
    }
    if (base)
        check_plugin(check, DRAFTER_KIND_STORAGE, NULL, DEFAULT_STORAGE, NULL, true);
    if (overlay)
        check_plugin(check, DRAFTER_KIND_STORAGE, NULL, DEFAULT_OVERLAY, NULL, true);
}

/* [drafter] role, or the section that only one role has. */
static const struct role_table *find_role(const struct config *config, const char *name)
{
    for (const struct role_table *table = role_tables; table->section; table++)
        if (table->is_role && (name ? strcmp(table->section, name) == 0
                                    : config_section(config, table->section, "") != NULL))
            return table;
    return NULL;
}

static void unknown_role(struct check *check, const struct config *config, const char *name)
{
    const struct config_section *section = config_section(config, "drafter", "");
    struct drafter_error error = {0};
    char list[256], remedy[320];

    if (!name) {
        snprintf(remedy, sizeof(remedy), "add role = %s to [drafter]",
                 role_list(list, sizeof(list)));
        check_add(check, CHECK_WARNING, "role", remedy,
                  "the file names no role: it has to be given on the command line");
        return;
    }
    role_unknown(name, &error);
    check_add(check, CHECK_ERROR, "role", NULL, "%s: %s", config_where(section, "role"), error.message);
}

/* What addresses mean only their transport knows; none has blanks in it. */
static void check_address(struct check *check, const struct config_section *section,
                          const char *key, const char *address)
{
    if (address && !words_count(address))
        check_add(check, CHECK_ERROR, key, NULL, "%s: \"%s\" is no address",
                  section ? config_where(section, key) : "default", address);
}

static bool flag_option(const struct role_table *role, const void *options, const char *key)
{
    const struct drafter_option *option = table_find(role->options, key);

    return option && option->type == DRAFTER_OPTION_BOOL &&
           *((const bool *)options + option->offset);
}

static enum check_use use_of(const struct role_table *role, const void *options, bool arriving)
{
    if (!strcmp(role->section, "packager"))
        return flag_option(role, options, "extract") ? CHECK_USE_EXTRACT
               : flag_option(role, options, "send")  ? CHECK_USE_SEND
                                                     : CHECK_USE_PACK;
    if (!strcmp(role->section, "registry"))
        return CHECK_USE_SERVE;
    if (!strcmp(role->section, "snapshotter"))
        return CHECK_USE_SNAPSHOT;
    if (!strcmp(role->section, "terminator"))
        return CHECK_USE_BACKUP;
    if (!strcmp(role->section, "mounter") && !arriving)
        return CHECK_USE_MOUNT;
    return arriving ? CHECK_USE_ARRIVE : CHECK_USE_START;
}

/* Whether slots exist and ports are free is known when it runs. */
static void check_forwards(struct check *check, const struct config *config)
{
    const struct config_section *section = NULL;
    unsigned count = 0;

    for (; (section = config_next(config, "forward", section)); count++) {
        struct forward_options options = {0};
        struct drafter_error err = {0};
        char address[64];
        uint16_t port;

        if (!check_apply(check, section, forward_option_table, NULL, &options, sizeof(options)))
            continue;
        if (port_parse(options.external_address, address, sizeof(address), &port, &err) < 0)
            check_add(check, CHECK_ERROR, "external-addr", NULL, "%s: %s",
                      config_where(section, "external-addr"), err.message);
    }
    if (count == 0)
        check_add(check, CHECK_ERROR, "forwards", "add a [forward:ID] section",
                  "there is nothing to forward");
}

static bool some_device_says(const struct config *config, const char *key)
{
    const struct config_section *section = NULL;

    while ((section = config_next(config, "device", section)))
        if (config_find_entry(section, key))
            return true;
    return false;
}

static void check_vm(struct check *check, struct node *node, const struct role_table *role,
                     const void *options)
{
    struct check_devices devices = {.check = check, .node = node};
    bool busy;

    devices.use = use_of(role, options, text_option(role, options, "connect") ||
                                            some_device_says(node->config, "connect"));
    devices.vmm = text_option(role, options, "vmm");
    devices.listening = !strcmp(role->section, "peer") &&
                        (text_option(role, options, "listen") ||
                         some_device_says(node->config, "listen"));
    devices.overwrite = flag_option(role, options, "overwrite");
    if (devices.use == CHECK_USE_START || devices.use == CHECK_USE_ARRIVE)
        switch (check_ledger(check, &node->options, devices.use == CHECK_USE_ARRIVE, &busy)) {
        case LEDGER_RELINQUISHED:
        case LEDGER_REFUSED:
        case LEDGER_ARRIVING:
            devices.overwrite = true;
            break;
        default:
            devices.overwrite |= busy; /* they are those of the VM that runs: nothing is received into them */
            break;
        }
    check_devices(&devices);
    check_file_plugins(check, node->config);
}

static void check_plain(struct check *check, const struct node *node, struct instance *transport,
                        const char *addresses, bool listening)
{
    char address[256];

    for (size_t i = 0; words_get(addresses, i, address, sizeof(address)); i++) {
        struct drafter_error err = {0};
        int rc = trust_judge_plain(transport, address, listening,
                                   (enum trust_plain)node->options.plain_transport, &err);

        if (rc)
            check_add(check, rc < 0 ? CHECK_ERROR : CHECK_WARNING, listening ? "listen" : "connect", NULL,
                      "%s", err.message);
    }
}

/*
 * What a transport finds only when it is made, such as that nothing is below it, and whether its addresses may be
 * used.  Its probe has said what is wrong with its options.
 */
static void check_streams(struct check *check, struct node *node, const struct role_table *role, const void *options)
{
    const char *id = text_option(role, options, "transport");
    const char *const addresses[] = {text_option(role, options, "connect"), text_option(role, options, "listen")};
    struct instance *transport = NULL;
    struct drafter_error err = {0};

    if (!id || check_failed(check) || !(addresses[0] || addresses[1]))
        return;
    if (node_instance(node, DRAFTER_KIND_TRANSPORT, id, &transport, &err))
        check_add(check, CHECK_ERROR, "transport", NULL, "%s", err.message);
    for (int listening = 0; transport && listening < 2; listening++)
        check_plain(check, node, transport, addresses[listening], listening);
    while (node->count)
        instance_free(node->instances[--node->count]);
}

static void check_role(struct check *check, struct node *node, const struct role_table *role)
{
    const struct config_section *section = config_section(node->config, role->section, "");
    cleanup_free void *options = calloc(1, role->size);

    if (!options || !check_apply(check, section, role->options, NULL, options, role->size))
        return;
    check_references(check, node->config, role, options);
    check_address(check, section, "connect", text_option(role, options, "connect"));
    check_address(check, section, "listen", text_option(role, options, "listen"));
    check_streams(check, node, role, options);
    if (role->has_vm)
        check_vm(check, node, role, options);
    if (!strcmp(role->section, "forwarder"))
        check_forwards(check, node->config);
}

void check_roles(struct check *check, const struct config *config)
{
    struct node node = {.config = (struct config *)config, .lock = -1};
    struct config_report report = {0};
    const struct role_table *role;

    if (!check_apply(check, config_section(config, "drafter", ""), node_option_table, NULL,
                     &node.options, sizeof(node.options)))
        return;
    node.directory = (char *)node.options.run_directory; /* for instances that are only asked */
    check_node(check, &node.options);
    role = find_role(config, node.options.role);
    if (!role) {
        unknown_role(check, config, node.options.role);
        return;
    }
    if (!node.options.role)
        unknown_role(check, config, NULL);
    check_role(check, &node, role);
    config_check_used(config, &report, NULL);
    check_add_report(check, "configuration", &report);
}
