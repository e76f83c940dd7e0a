/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter roles`: what the program can be, and the keys of the sections that say how. */
#include "command.h"
#include "plugin/describe.h"
#include "role/devices.h"
#include "role/forwarder.h"
#include "role/nat.h"
#include "role/node.h"
#include "role/original.h"
#include "role/packager.h"
#include "role/peer-roles.h"
#include "role/peer.h"
#include "role/registry.h"
#include "role/snapshotter.h"
#include "role/tables.h"

#include <string.h>

/* A new role is a line here and one in role.c. */
const struct role_table role_tables[] = {
    {"drafter", "the node, whatever its role", node_option_table, sizeof(struct node_options),
     false, false, NULL, CONFIG_FLAG_ANY},
    {"peer", "runs a VM from files or takes it over from a peer, and hands it on",
     peer_option_table, sizeof(struct peer_options), true, true, peer_flags, CONFIG_FLAG_PARTS},
    {"registry", "hands copies of a package to any number of peers", registry_option_table,
     sizeof(struct registry_options), true, true, registry_flags, CONFIG_FLAG_WHOLE},
    {"snapshotter", "boots a guest and makes a package of it", snapshotter_option_table,
     sizeof(struct snapshotter_options), true, true, snapshotter_flags, CONFIG_FLAG_WHOLE},
    {"nat", "makes the network slots that VMs run in, and keeps them", nat_option_table,
     sizeof(struct nat_options), true, false, nat_flags, CONFIG_FLAG_ANY},
    {"forwarder", "forwards ports of the host to VMs in slots", forwarder_option_table,
     sizeof(struct forwarder_options), true, false, forwarder_flags, CONFIG_FLAG_ANY},
    {"packager", "puts the devices of a VM into one file, or takes them out", packager_option_table,
     sizeof(struct packager_options), true, true, packager_flags,
     CONFIG_FLAG_WHOLE},
    {"runner", "runs a VM from files and saves it there", runner_option_table,
     sizeof(struct peer_options), true, true, runner_flags, CONFIG_FLAG_WHOLE},
    {"mounter", "takes devices without their VM, shows them and hands them on", mounter_option_table,
     sizeof(struct peer_options), true, true, mounter_flags, CONFIG_FLAG_WHOLE},
    {"terminator", "takes a VM and puts it into files instead of running it",
     terminator_option_table, sizeof(struct peer_options), true, true, terminator_flags,
     CONFIG_FLAG_WHOLE},
    {"device", "a device of the VM, in [device:NAME]", device_option_table,
     sizeof(struct device_options), false, false, NULL, CONFIG_FLAG_ANY},
    {"forward", "a port that is forwarded, in [forward:NAME]", forward_option_table,
     sizeof(struct forward_options), false, false, NULL, CONFIG_FLAG_ANY},
    {0},
};

const struct role_table *role_table_find(const char *section)
{
    for (const struct role_table *table = role_tables; table->section; table++)
        if (!strcmp(table->section, section))
            return table;
    return NULL;
}

static json_t *table_json(const struct role_table *table)
{
    return json_pack("{s:s, s:s, s:b, s:o}", "section", table->section, "summary", table->summary,
                     "role", (int)table->is_role, "options", describe_options_json(table->options));
}

static int print_json(const char *wanted)
{
    json_t *all = json_array();

    for (const struct role_table *table = role_tables; table->section; table++)
        if (!wanted || !strcmp(table->section, wanted))
            json_array_append_new(all, table_json(table));
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
    return 0;
}

int command_roles(const char *section, bool json, struct drafter_error *err)
{
    const struct role_table *table = section ? role_table_find(section) : NULL;

    if (section && !table)
        return drafter_error_set(
            err, ENOENT, "no section '%s' belongs to a role; `drafter roles` lists them", section);
    if (json)
        return print_json(section);
    if (table) {
        printf("[%s]: %s\n", table->section, table->summary);
        describe_options_text(table->options, stdout);
        return 0;
    }
    for (table = role_tables; table->section; table++)
        printf("%-12s %-8s %s\n", table->section, table->is_role ? "role" : "section",
               table->summary);
    return 0;
}
