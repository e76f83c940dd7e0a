/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/config.h"

#include "config/copy.h"
#include "config/suggest.h"
#include "config/tree.h"
#include "util/cleanup.h"

#include <string.h>

struct config *config_new(const char *origin)
{
    struct config *config = calloc(1, sizeof(*config));

    if (!config)
        return NULL;
    config->origin = strdup(origin);
    if (!config->origin) {
        free(config);
        return NULL;
    }
    return config;
}

/* Values may be secret: they do not stay behind in freed memory. */
static void value_free(char *value)
{
    if (value)
        explicit_bzero(value, strlen(value));
    free(value);
}

static void section_free(struct config_section *section)
{
    for (size_t i = 0; i < section->entry_count; i++) {
        value_free(section->entries[i].value);
        free(section->entries[i].key);
    }
    free(section->entries);
    free(section->kind);
    free(section->id);
    free(section);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->section_count; i++)
        section_free(config->sections[i]);
    free(config->sections);
    free(config->origin);
    free(config);
}

const char *config_origin(const struct config *config)
{
    return config->origin;
}

/* Makes room for one more element of an array that grows by doubling. */
static void *grow(void *array, size_t count, size_t element)
{
    if (count & (count - 1))
        return array; /* not a power of two: there is room */
    return reallocarray(array, count ? 2 * count : 1, element);
}

int config_add_section(struct config *config, const char *kind, const char *id, unsigned line,
                       struct config_section **ret_section)
{
    struct config_section *section, **grown;

    if (config->section_count == CONFIG_SECTIONS_MAX)
        return -ENOSPC;
    grown = grow(config->sections, config->section_count, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    config->sections = grown;
    section = calloc(1, sizeof(*section));
    if (!section)
        return -ENOMEM;
    section->config = config;
    section->line = line;
    section->kind = strdup(kind);
    section->id = strdup(id);
    if (!section->kind || !section->id) {
        section_free(section);
        return -ENOMEM;
    }
    config->sections[config->section_count++] = section;
    *ret_section = section;
    return 0;
}

int config_add_entry(struct config_section *section, const char *key, const char *value,
                     unsigned line)
{
    struct config_entry entry = {.line = line}, *grown;

    if (section->entry_count == CONFIG_ENTRIES_MAX)
        return -ENOSPC;
    grown = grow(section->entries, section->entry_count, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    section->entries = grown;
    entry.key = strdup(key);
    entry.value = strdup(value);
    if (!entry.key || !entry.value) {
        free(entry.key);
        free(entry.value);
        return -ENOMEM;
    }
    section->entries[section->entry_count++] = entry;
    return 0;
}

struct config_entry *config_find_entry(const struct config_section *section, const char *key)
{
    for (size_t i = 0; i < section->entry_count; i++)
        if (suggest_same(section->entries[i].key, key))
            return &section->entries[i];
    return NULL;
}

struct config_section *config_section(const struct config *config, const char *kind, const char *id)
{
    for (size_t i = 0; i < config->section_count; i++) {
        struct config_section *section = config->sections[i];

        if (suggest_same(section->kind, kind) && strcmp(section->id, id) == 0)
            return section;
    }
    return NULL;
}

struct config_section *config_next(const struct config *config, const char *kind,
                                   const struct config_section *previous)
{
    bool passed = !previous;

    for (size_t i = 0; i < config->section_count; i++) {
        struct config_section *section = config->sections[i];

        if (passed && suggest_same(section->kind, kind))
            return section;
        if (section == previous)
            passed = true;
    }
    return NULL;
}

int config_set(struct config *config, const char *kind, const char *id, const char *key,
               const char *value, struct drafter_error *err)
{
    struct config_section *section = config_section(config, kind, id);
    struct config_entry *entry;
    int ret = 0;

    if (!section)
        ret = config_add_section(config, kind, id, 0, &section);
    if (ret == 0) {
        entry = config_find_entry(section, key);
        if (entry) {
            char *copy = strdup(value);

            if (!copy)
                return drafter_error_errno(err, ENOMEM, "%s", key);
            value_free(entry->value);
            entry->value = copy;
            entry->line = 0;
        } else {
            ret = config_add_entry(section, key, value, 0);
        }
    }
    return ret < 0 ? drafter_error_errno(err, -ret, "%s: cannot set '%s'", config->origin, key) : 0;
}

void config_unset(struct config *config, const char *kind, const char *id, const char *key)
{
    struct config_section *section = config_section(config, kind, id);
    struct config_entry *entry = section ? config_find_entry(section, key) : NULL;

    if (!entry)
        return;
    value_free(entry->value);
    free(entry->key);
    for (; entry + 1 < section->entries + section->entry_count; entry++)
        entry[0] = entry[1];
    section->entry_count--;
}

const char *config_value(const struct config_section *section, const char *key)
{
    struct config_entry *entry = config_find_entry(section, key);

    /* The marks are bookkeeping about the section, not part of its value. */
    ((struct config_section *)section)->used = true;
    if (!entry)
        return NULL;
    entry->used = true;
    return entry->value;
}

const char *config_where(const struct config_section *section, const char *key)
{
    static _Thread_local char buffers[4][320];
    static _Thread_local unsigned turn;
    const struct config_entry *entry = key ? config_find_entry(section, key) : NULL;
    const struct config *config = section->config;
    unsigned line = entry ? entry->line : section->line;
    char *buffer = buffers[turn++ % 4];

    if (line > 0)
        snprintf(buffer, sizeof(buffers[0]), "%.300s:%u", config->origin, line);
    else
        snprintf(buffer, sizeof(buffers[0]), "%.300s",
                 config->from_file ? "command line" : config->origin);
    return buffer;
}

void config_section_title(const struct config_section *section, char *buffer, size_t size)
{
    snprintf(buffer, size, "[%.64s%s%.64s]", section->kind, *section->id ? ":" : "", section->id);
}

static const char *shown_value(const struct config_entry *entry)
{
    if (entry->secret)
        return "(secret)";
    return entry->used ? entry->value : "(not used)";
}

void config_print(const struct config *config, void *stream)
{
    for (size_t i = 0; i < config->section_count; i++) {
        const struct config_section *section = config->sections[i];

        fprintf(stream, "%s[%s%s%s]\n", i ? "\n" : "", section->kind, *section->id ? ":" : "",
                section->id);
        for (size_t j = 0; j < section->entry_count; j++)
            fprintf(stream, "%s = %s\n", section->entries[j].key,
                    shown_value(&section->entries[j]));
    }
}

struct config *config_copy_section(const struct config_section *section)
{
    struct config *config = config_new(section->config->origin);
    struct config_section *copy;

    if (!config)
        return NULL;
    config->from_file = section->config->from_file;
    if (config_add_section(config, section->kind, section->id, section->line, &copy) < 0)
        goto fail;
    for (size_t i = 0; i < section->entry_count; i++) {
        const struct config_entry *entry = &section->entries[i];

        if (config_add_entry(copy, entry->key, entry->value, entry->line) < 0)
            goto fail;
        copy->entries[i].used = entry->used;
        copy->entries[i].secret = entry->secret;
        copy->entries[i].warned = entry->warned;
    }
    return config;

fail:
    config_free(config);
    return NULL;
}

void config_copy_marks(const struct config_section *copy, const struct config_section *section)
{
    ((struct config_section *)section)->used |= copy->used;
    for (size_t i = 0; i < copy->entry_count; i++) {
        struct config_entry *entry = config_find_entry(section, copy->entries[i].key);

        if (entry) {
            entry->used |= copy->entries[i].used;
            entry->secret |= copy->entries[i].secret;
            entry->warned |= copy->entries[i].warned;
        }
    }
}
