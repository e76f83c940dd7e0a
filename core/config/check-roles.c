/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What only roles know: their option tables, which plugins they use and which files they need.  A
 * new role is one line in `roles`.
 */
#include "config/check.h"

#include "config/suggest.h"
#include "config/table.h"
#include "config/tree.h"
#include "role/devices.h"
#include "role/node.h"
#include "role/peer.h"
#include "role/registry.h"
#include "role/snapshotter.h"
#include "util/cleanup.h"

#include <libgen.h>
#include <string.h>

/* Which files of a device must be there before the role starts. */
enum files {
    FILES_BASE,   /* starts from it */
    FILES_ARRIVE, /* receives into it: the directory must be writable */
    FILES_OUTPUT, /* snapshotter: input is read, output written */
};

static const struct role {
    const char *name;
    const struct drafter_option *options;
    size_t size;
    enum files files;
} roles[] = {
    {"peer", peer_option_table, sizeof(struct peer_options), FILES_BASE},
    {"registry", registry_option_table, sizeof(struct registry_options), FILES_BASE},
    {"snapshotter", snapshotter_option_table, sizeof(struct snapshotter_options), FILES_OUTPUT},
};
#define ROLE_COUNT (sizeof(roles) / sizeof(*roles))

/* The options of roles that name plugin instances. */
static const struct {
    const char *key;
    enum drafter_kind kind;
} references[] = {
    {"transport", DRAFTER_KIND_TRANSPORT},
    {"vmm", DRAFTER_KIND_VMM},
    {"exposure", DRAFTER_KIND_DEVICE},
    {"network", DRAFTER_KIND_NETWORK},
};

/* The string that the role's options hold for a key, or NULL. */
static const char *text_option(const struct role *role, const void *options, const char *key)
{
    const struct drafter_option *option = table_find(role->options, key);
    const char *text;

    if (!option || option->type != DRAFTER_OPTION_STRING)
        return NULL;
    memcpy(&text, (const char *)options + option->offset, sizeof(text));
    return text;
}

static void check_references(struct check *check, const struct config *config,
                             const struct role *role, const void *options)
{
    bool talks = text_option(role, options, "connect") || text_option(role, options, "listen");

    for (size_t i = 0; i < sizeof(references) / sizeof(*references); i++) {
        const char *id = text_option(role, options, references[i].key);

        if (id && (references[i].kind != DRAFTER_KIND_TRANSPORT || talks))
            check_reference(check, config, references[i].kind, id, true);
    }
}

/* A file that is to be read. */
static void check_input(struct check *check, const struct config_section *section, const char *key,
                        const char *path)
{
    if (path && access(path, R_OK) < 0)
        check_add(check, CHECK_ERROR, section->id, NULL, "%s: %s: %s", config_where(section, key),
                  path, strerror(errno));
}

/* A file that is to be written: it or, when it is not there, its directory. */
static void check_output(struct check *check, const struct config_section *section, const char *key,
                         const char *path)
{
    cleanup_free char *copy = path ? strdup(path) : NULL;
    const char *directory;

    if (!copy || access(path, W_OK) == 0)
        return;
    directory = errno == ENOENT ? dirname(copy) : path;
    if (access(directory, W_OK) < 0)
        check_add(check, CHECK_ERROR, section->id,
                  errno == ENOENT ? "make the directory" : "change its permissions", "%s: %s: %s",
                  config_where(section, key), directory, strerror(errno));
}

/* The words of a list, separated by blanks. */
static unsigned count_words(const char *list)
{
    unsigned count = 0;

    while (list && *(list += strspn(list, " \t"))) {
        count++;
        list += strcspn(list, " \t");
    }
    return count;
}

static void check_device(struct check *check, const struct config *config,
                         const struct config_section *section, enum files files)
{
    struct device_options options = {0};

    if (!check_apply(check, section, device_option_table, NULL, &options, sizeof(options)))
        return;
    if (count_words(options.overlay) != count_words(options.state))
        check_add(check, CHECK_ERROR, section->id, NULL,
                  "%s: overlay and state must name equally many files",
                  config_where(section, options.overlay ? "overlay" : "state"));
    if (options.storage)
        check_reference(check, config, DRAFTER_KIND_STORAGE, options.storage, true);
    if (files == FILES_OUTPUT) {
        check_input(check, section, "input", options.input);
        check_output(check, section, "output", options.output);
    } else if (files == FILES_BASE) {
        check_input(check, section, "base", options.base);
    } else {
        check_output(check, section, "base", options.base);
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

/* A directory that the node makes when it starts: the nearest parent that is there must be
 * writable. */
static void check_directory(struct check *check, const char *key, const char *path)
{
    cleanup_free char *copy = strdup(path);
    const char *parent = copy;

    while (parent && access(parent, F_OK) < 0 && errno == ENOENT)
        parent = dirname((char *)parent); /* ends at "/" or ".", which are there */
    if (parent && access(parent, W_OK) < 0)
        check_add(check, CHECK_ERROR, key, "make it writable or name another one", "%s: %s", parent,
                  strerror(errno));
}

/* [drafter] role, or the section that only one role has. */
static const struct role *find_role(const struct config *config, const char *name)
{
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if (name ? strcmp(roles[i].name, name) == 0
                 : config_section(config, roles[i].name, "") != NULL)
            return &roles[i];
    return NULL;
}

static void unknown_role(struct check *check, const struct config *config, const char *name)
{
    const struct config_section *section = config_section(config, "drafter", "");
    const char *names[ROLE_COUNT], *nearest;
    char remedy[64];

    for (size_t i = 0; i < ROLE_COUNT; i++)
        names[i] = roles[i].name;
    if (!name) {
        check_add(check, CHECK_WARNING, "role",
                  "add role = peer, registry or snapshotter to [drafter]",
                  "the file names no role: it has to be given on the command line");
        return;
    }
    nearest = suggest_nearest(name, names, ROLE_COUNT);
    snprintf(remedy, sizeof(remedy), "did you mean '%s'?", nearest ? nearest : "");
    check_add(check, CHECK_ERROR, "role", nearest ? remedy : NULL, "%s: unknown role '%s'",
              config_where(section, "role"), name);
}

static void check_role(struct check *check, const struct config *config, const struct role *role)
{
    const struct config_section *section = config_section(config, role->name, ""), *device = NULL;
    cleanup_free void *options = calloc(1, role->size);
    enum files files = role->files;

    if (!options || !check_apply(check, section, role->options, NULL, options, role->size))
        return;
    if (text_option(role, options, "connect"))
        files = FILES_ARRIVE;
    check_references(check, config, role, options);
    while ((device = config_next(config, "device", device)))
        check_device(check, config, device, files);
    check_file_plugins(check, config);
}

void check_roles(struct check *check, const struct config *config)
{
    struct node_options options = {0};
    struct config_report report = {0};
    const struct role *role;

    if (!check_apply(check, config_section(config, "drafter", ""), node_option_table, NULL,
                     &options, sizeof(options)))
        return;
    check_directory(check, "state-directory", options.state_directory);
    check_directory(check, "run-directory", options.run_directory);
    role = find_role(config, options.role);
    if (!role) {
        unknown_role(check, config, options.role);
        return;
    }
    if (!options.role)
        unknown_role(check, config, NULL);
    check_role(check, config, role);
    config_check_used(config, &report, NULL);
    check_add_report(check, "configuration", &report);
}
