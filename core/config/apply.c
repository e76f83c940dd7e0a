/* SPDX-License-Identifier: BSD-2-Clause */
/* Option tables against sections: typed values in, sentences with file:line out. */
#include "config/suggest.h"
#include "config/table.h"
#include "config/tree.h"
#include "util/log.h"

#include <stdio.h>
#include <string.h>

#define KEYS_MAX 320

/* The faults so far of one run over a section. */
struct outcome {
    struct config_report *report;
    struct drafter_error *err;
    int ret; /* of the first fault */
};

/* Returns whether to go on: only with a report to fill. */
static bool note(struct outcome *outcome, const struct drafter_error *fault)
{
    int ret = config_fault(outcome->report, outcome->ret == 0 ? outcome->err : NULL, fault);

    if (outcome->ret == 0)
        outcome->ret = ret;
    return outcome->report != NULL;
}

static size_t collect_keys(const struct drafter_option *table, const char *const *also,
                           const char **keys)
{
    size_t count = 0;

    for (; table && table->key && count < KEYS_MAX; table++)
        keys[count++] = table->key;
    for (; also && *also && count < KEYS_MAX; also++)
        keys[count++] = *also;
    return count;
}

const char *config_nearest_key(const struct drafter_option *table, const char *const *also,
                               const char *key)
{
    const char *keys[KEYS_MAX];

    return suggest_nearest(key, keys, (unsigned)collect_keys(table, also, keys));
}

static void list_keys(const struct drafter_option *table, const char *const *also, char *buffer,
                      size_t size)
{
    const char *keys[KEYS_MAX];
    size_t count = collect_keys(table, also, keys), used = 0;

    *buffer = '\0';
    for (size_t i = 0; i < count && used < size; i++) {
        int length = snprintf(buffer + used, size - used, "%s%s", i ? ", " : "", keys[i]);

        used += length > 0 ? (size_t)length : 0;
    }
}

static void unknown_key(const struct config_section *section, const struct config_entry *entry,
                        const struct drafter_option *table, const char *const *also,
                        struct drafter_error *fault)
{
    const char *nearest = config_nearest_key(table, also, entry->key);
    const char *where = config_where(section, entry->key);
    char title[160], keys[256];

    config_section_title(section, title, sizeof(title));
    if (nearest) {
        drafter_error_set(fault, EINVAL, "%s: unknown key '%.64s' in %s; did you mean '%s'?", where,
                          entry->key, title, nearest);
        return;
    }
    list_keys(table, also, keys, sizeof(keys));
    drafter_error_set(fault, EINVAL, "%s: unknown key '%.64s' in %s, which has %s", where,
                      entry->key, title, *keys ? keys : "no keys");
}

static bool listed(const char *const *list, const char *key)
{
    for (; list && *list; list++)
        if (suggest_same(*list, key))
            return true;
    return false;
}

/* What is off has no effect anyway. */
static bool says_no(const char *value)
{
    bool on;

    return !*value || (!table_parse_bool(value, &on) && !on);
}

static void apply_entry(const struct config_section *section, struct config_entry *entry,
                        const struct drafter_option *table, const char *const *also, void *target,
                        struct drafter_error *fault)
{
    const struct drafter_option *option = table_find(table, entry->key);
    bool known = entry->used;

    if (!option) {
        if (listed(also, entry->key))
            entry->used = true;
        else if (!known)
            unknown_key(section, entry, table, also, fault);
        entry->faulty |= fault->code != 0;
        return;
    }
    entry->used = true;
    entry->secret |= (option->flags & DRAFTER_OPTION_SECRET) != 0;
    if (option->flags & DRAFTER_OPTION_IGNORED) {
        if (!entry->warned && !says_no(entry->value))
            log_warning("drafter", "%s: %s has no effect: %s", config_where(section, entry->key),
                        option->key, option->help);
        entry->warned = true;
        return;
    }
    if (table_store(option, entry->value, target, fault) < 0)
        drafter_error_wrap(fault, "%s: %s", config_where(section, entry->key), option->key);
}

static void missing_key(const struct config_section *section, const struct drafter_option *option,
                        struct drafter_error *fault)
{
    char title[160] = "the configuration";

    if (section)
        config_section_title(section, title, sizeof(title));
    drafter_error_set(fault, EINVAL, "%s%s%s lacks '%s'%s%s%s",
                      section ? config_where(section, NULL) : "", section ? ": " : "", title,
                      option->key, option->help ? " (" : "", option->help ? option->help : "",
                      option->help ? ")" : "");
}

static int apply_defaults(const struct drafter_option *table, void *target, size_t size,
                          struct drafter_error *err)
{
    for (; table && table->key; table++) {
        int ret = 0;

        if (table->flags & DRAFTER_OPTION_IGNORED)
            continue;
        if (table->offset >= size)
            return drafter_error_set(err, EINVAL, "option '%s' is outside of its struct",
                                     table->key);
        if (table->default_value)
            ret = table_store(table, table->default_value, target, err);
        if (ret < 0)
            return drafter_error_wrap(err, "default of '%s'", table->key);
    }
    return 0;
}

static void apply_required(const struct config_section *section, const struct drafter_option *table,
                           struct outcome *outcome)
{
    for (; table && table->key; table++) {
        struct drafter_error fault = {0};

        if (!(table->flags & DRAFTER_OPTION_REQUIRED) ||
            (section && config_find_entry(section, table->key)))
            continue;
        missing_key(section, table, &fault);
        if (!note(outcome, &fault))
            return;
    }
}

int config_apply_all(const struct config_section *section, const struct drafter_option *table,
                     const char *const *also, void *target, size_t size,
                     struct config_report *report, struct drafter_error *err)
{
    struct outcome outcome = {report, err, 0};
    int ret = apply_defaults(table, target, size, err);

    if (ret < 0)
        return ret;
    if (section)
        ((struct config_section *)section)->used = true;
    for (size_t i = 0; section && i < section->entry_count; i++) {
        struct drafter_error fault = {0};

        apply_entry(section, &section->entries[i], table, also, target, &fault);
        if (fault.code && !note(&outcome, &fault))
            return outcome.ret;
    }
    apply_required(section, table, &outcome);
    return outcome.ret;
}

int config_apply(const struct config_section *section, const struct drafter_option *table,
                 const char *const *also, void *target, size_t size, struct drafter_error *err)
{
    return config_apply_all(section, table, also, target, size, NULL, err);
}

static void unknown_kind(const struct config_section *section, const char *const *kinds,
                         struct drafter_error *fault)
{
    const char *nearest;
    char title[160];
    unsigned count = 0;

    while (kinds[count])
        count++;
    nearest = suggest_nearest(section->kind, kinds, count);
    config_section_title(section, title, sizeof(title));
    drafter_error_set(fault, EINVAL, "%s: unknown section %s%s%s%s", config_where(section, NULL),
                      title, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                      nearest ? "'?" : "");
}

int config_check_kinds_all(const struct config *config, const char *const *kinds,
                           struct config_report *report, struct drafter_error *err)
{
    struct outcome outcome = {report, err, 0};

    for (size_t i = 0; i < config->section_count; i++) {
        struct drafter_error fault = {0};

        if (listed(kinds, config->sections[i]->kind))
            continue;
        unknown_kind(config->sections[i], kinds, &fault);
        config->sections[i]->faulty = true;
        if (!note(&outcome, &fault))
            break;
    }
    return outcome.ret;
}

int config_check_kinds(const struct config *config, const char *const *kinds,
                       struct drafter_error *err)
{
    return config_check_kinds_all(config, kinds, NULL, err);
}

static bool check_section_used(const struct config_section *section, struct outcome *outcome)
{
    struct drafter_error fault = {0};
    char title[160];

    if (section->faulty)
        return true;
    config_section_title(section, title, sizeof(title));
    if (!section->used) {
        drafter_error_set(&fault, EINVAL, "%s: nothing uses section %s",
                          config_where(section, NULL), title);
        return note(outcome, &fault);
    }
    for (size_t i = 0; i < section->entry_count; i++) {
        const char *key = section->entries[i].key;

        if (section->entries[i].used || section->entries[i].faulty)
            continue;
        drafter_error_set(&fault, EINVAL, "%s: nothing uses key '%.64s' in %s",
                          config_where(section, key), key, title);
        if (!note(outcome, &fault))
            return false;
    }
    return true;
}

int config_check_used(const struct config *config, struct config_report *report,
                      struct drafter_error *err)
{
    struct outcome outcome = {report, err, 0};

    for (size_t i = 0; i < config->section_count; i++)
        if (!check_section_used(config->sections[i], &outcome))
            break;
    return outcome.ret;
}
