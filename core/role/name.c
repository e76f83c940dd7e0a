/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/name.h"

#include "config/tree.h"
#include "util/cleanup.h"
#include "vm/vm.h"

#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define HASH_SIZE 16

/* The file of the device that changes when the VM runs; the topmost overlay is the last word of its list. */
static const char *file_of(const struct config_section *section)
{
    static const char *const keys[] = {"overlay", "base", "output", "path", "input"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        const struct config_entry *entry = config_find_entry(section, keys[i]);

        if (entry && *entry->value)
            return entry->value;
    }
    return NULL;
}

static const char *file_of_vm(const struct config *config)
{
    const struct config_section *section = config_section(config, "device", VM_DEVICE_MEMORY);
    const char *file = section ? file_of(section) : NULL;

    section = NULL;
    while (!file && (section = config_next(config, "device", section)))
        file = file_of(section);
    return file;
}

/* A VM without files of its own is told apart by where it runs. */
static int name_by_slot(struct config *config, const char *kind, struct drafter_error *err)
{
    const struct config_section *section = NULL;
    const struct config_entry *entry = NULL;
    char name[DRAFTER_NAME_MAX + 1];

    for (size_t i = 0; i < config->section_count && !entry; i++)
        if (!*config->sections[i]->id)
            entry = config_find_entry(config->sections[i], "netns");
    if (!entry || !(section = config_next(config, "device", NULL)) || strchr(entry->value, '/'))
        return 0;
    snprintf(name, sizeof(name), "%s-%s", kind, entry->value);
    return config_set(config, "drafter", "", "name", name, err);
}

static int name_by_file(struct config *config, const char *kind, const char *file,
                        struct drafter_error *err)
{
    cleanup_free char *directory = *file == '/' ? strdup("") : getcwd(NULL, 0), *path = NULL;
    char name[DRAFTER_NAME_MAX + 1], text[2 * HASH_SIZE + 1];
    unsigned char digest[HASH_SIZE];

    if (!directory || asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", file) < 0)
        return drafter_error_errno(err, errno, "cannot name the VM");
    crypto_generichash(digest, sizeof(digest), (unsigned char *)path, strlen(path), NULL, 0);
    sodium_bin2hex(text, sizeof(text), digest, sizeof(digest));
    snprintf(name, sizeof(name), "%s-%.8s", kind, text);
    return config_set(config, "drafter", "", "name", name, err);
}

int role_default_name(struct config *config, const char *kind, struct drafter_error *err)
{
    const struct config_section *section = config_section(config, "drafter", "");
    const char *file = file_of_vm(config);

    if (config->from_file || (section && config_find_entry(section, "name")))
        return 0;
    return file ? name_by_file(config, kind, file, err) : name_by_slot(config, kind, err);
}
