/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sections that configure plugins, whatever the role.  A storage section may lie over another
 * one
 * (`next = ID`), a transport section likewise; the chain must end.
 */
#include "config/check.h"

#include "config/tree.h"
#include "plugin/plugin.h"
#include "plugin/search.h"
#include "plugin/transport.h"
#include "util/cleanup.h"

#include <stdio.h>
#include <string.h>

/* [device:ID] is none of them: that is a device of the VM, not the plugin that shows it. */
static const struct plugin_section {
    const char *section;
    enum drafter_kind kind;
} plugin_sections[] = {
    {"transport", DRAFTER_KIND_TRANSPORT},
    {"storage", DRAFTER_KIND_STORAGE},
    {"network", DRAFTER_KIND_NETWORK},
    {"exposure", DRAFTER_KIND_DEVICE},
    {"vmm", DRAFTER_KIND_VMM},
};
#define SECTION_COUNT (sizeof(plugin_sections) / sizeof(*plugin_sections))

static const char *section_of(enum drafter_kind kind)
{
    for (size_t i = 0; i < SECTION_COUNT; i++)
        if (plugin_sections[i].kind == kind)
            return plugin_sections[i].section;
    return "";
}

/* What a plugin that is not there would make of its section nobody knows. */
static void give_up(const struct config_section *section)
{
    if (section)
        ((struct config_section *)section)->faulty = true;
}

static void title_of(enum drafter_kind kind, const struct config_section *section,
                     const char *plugin, char *buffer, size_t size)
{
    char title[160];

    if (section) {
        config_section_title(section, title, sizeof(title));
        snprintf(buffer, size, "%s %s", title, plugin);
    } else {
        snprintf(buffer, size, "%s plugin %s", plugin_kind_name(kind), plugin);
    }
}

static void ask_probe(struct check *check, const struct plugin *plugin, const void *config,
                      enum check_level level, const char *what)
{
    struct drafter_probe probe = {0};
    int ret;

    if (!plugin->descriptor.probe) {
        check_add(check, CHECK_OK, what, NULL, "version %s, %s", plugin->descriptor.version,
                  plugin->path);
        return;
    }
    ret = plugin->descriptor.probe(config, &probe);
    probe.reason[sizeof(probe.reason) - 1] = '\0';
    probe.remedy[sizeof(probe.remedy) - 1] = '\0';
    if (ret < 0)
        check_add(check, level, what, NULL, "the probe failed: %s", strerror(-ret));
    else if (!probe.usable)
        check_add(check, level, what, probe.remedy, "%s",
                  *probe.reason ? probe.reason : "this host cannot do it");
    else
        check_add(check, CHECK_OK, what, probe.remedy, "version %s%s%s", plugin->descriptor.version,
                  *probe.reason ? ", " : "", probe.reason);
}

static void apply_and_probe(struct check *check, const struct plugin *plugin,
                            const struct config_section *section, const char *const *also,
                            enum check_level level, const char *what)
{
    static const char *const no_keys[] = {NULL};
    const struct drafter_plugin *descriptor = &plugin->descriptor;
    struct config_report report = {0};
    cleanup_free void *config = calloc(1, descriptor->config_size ? descriptor->config_size : 1);

    if (!config) {
        check_add(check, CHECK_ERROR, what, NULL, "no memory");
        return;
    }
    if (config_apply_all(section, descriptor->options, also ? also : no_keys, config,
                         descriptor->config_size, &report, NULL) == 0) {
        ask_probe(check, plugin, config, level, what);
    } else if (section) {
        check_add_report(check, what, &report);
    } else { /* required keys: there is no section that would have them, so it is not in use */
        check_add(check, CHECK_OK, what, NULL, "version %s, %s", descriptor->version, plugin->path);
    }
    config_report_free(&report);
}

void check_plugin(struct check *check, enum drafter_kind kind, const struct config_section *section,
                  const char *fallback, const char *const *also, bool needed)
{
    enum check_level level = needed ? CHECK_ERROR : CHECK_WARNING;
    const char *name = section ? config_value(section, "plugin") : NULL;
    struct drafter_error err = {0};
    struct plugin *plugin;
    char what[256];

    if (!name)
        name = fallback;
    if (!name) {
        title_of(kind, section, "", what, sizeof(what));
        check_add(check, CHECK_ERROR, what, "add plugin = NAME", "%s names no plugin",
                  section ? config_where(section, NULL) : "the configuration");
        give_up(section);
        return;
    }
    title_of(kind, section, name, what, sizeof(what));
    if (plugin_load(kind, name, &plugin, &err) < 0) {
        if (section)
            drafter_error_wrap(&err, "%s", config_where(section, "plugin"));
        check_add(check, level, what, "install it, or name one that `drafter plugins` lists", "%s",
                  err.message);
        give_up(section);
        return;
    }
    apply_and_probe(check, plugin, section, also, level, what);
    if (kind == DRAFTER_KIND_TRANSPORT && transport_plugin_knows_peers(plugin))
        check_need_trust(check);
    plugin_unload(plugin);
}

void check_reference(struct check *check, const struct config *config, enum drafter_kind kind,
                     const char *id, bool needed)
{
    if (!config_section(config, section_of(kind), id))
        check_plugin(check, kind, NULL, id, NULL, needed);
}

/* Follows `next` down; more steps than sections is a circle. */
static void check_chain(struct check *check, const struct config *config, enum drafter_kind kind,
                        const struct config_section *section)
{
    const struct config_section *at = section;
    const char *next = config_value(section, "next");
    char title[160];

    if (!next)
        return;
    check_reference(check, config, kind, next, true);
    for (size_t steps = 0; at && (next = config_value(at, "next")); steps++) {
        if (steps > config->section_count) {
            config_section_title(section, title, sizeof(title));
            check_add(check, CHECK_ERROR, title, "end the chain with a section without next",
                      "%s: the sections lie over each other in a circle",
                      config_where(section, "next"));
            return;
        }
        at = config_section(config, at->kind, next);
    }
}

void check_plugins(struct check *check, const struct config *config)
{
    static const char *const also[] = {"plugin", "next", NULL};

    for (size_t i = 0; i < SECTION_COUNT; i++) {
        const struct plugin_section *entry = &plugin_sections[i];
        const struct config_section *section = NULL;

        while ((section = config_next(config, entry->section, section))) {
            check_plugin(check, entry->kind, section, NULL, also, true);
            check_chain(check, config, entry->kind, section);
        }
    }
}
