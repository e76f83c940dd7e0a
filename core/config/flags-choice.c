/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The options of a plugin are flags, too, so the plugin has to be known before the line can be read: this looks
 * ahead for the flags that choose it.
 */
#include "config/flags-internal.h"

#include "config/suggest.h"
#include "config/table.h"

#include <string.h>

/* What a word of the line is called as a flag, and what follows its '='; false: it is none. */
static bool name_of(const char *word, char *name, size_t size, const char **ret_value)
{
    const char *equals = strchr(word, '=');
    size_t length;

    if (*word != '-' || !word[1])
        return false;
    word += word[1] == '-' ? 2 : 1;
    length = equals ? (size_t)(equals - word) : strlen(word);
    if (length >= size)
        return false;
    memcpy(name, word, length);
    name[length] = '\0';
    *ret_value = equals ? equals + 1 : NULL;
    return true;
}

/* A switch that stands for a choice of the plugin, or NULL. */
static const char *switched(const struct config_flags *flags, const char *name, const char *value)
{
    const struct config_flag *flag = flags->flags;
    bool on = true;

    for (; flag && flag->name; flag++)
        if (flag->value && !strcmp(flag->kind, flags->role) &&
            !strcmp(flag->key, flags->plugin_kind) && suggest_same(flag->name, name))
            return value && (table_parse_bool(value, &on) < 0 || !on) ? NULL : flag->value;
    return NULL;
}

/* The id that the line chooses; the last word counts. */
static const char *chosen_by_line(const struct config_flags *flags, char *const *arguments)
{
    const char *id = NULL, *value, *other;
    char name[64];

    for (; *arguments; arguments++) {
        if (!name_of(*arguments, name, sizeof(name), &value))
            continue;
        other = switched(flags, name, value);
        if (other)
            id = other;
        else if (suggest_same(name, flags->plugin_kind) && (value || arguments[1]))
            id = value ? value : *++arguments;
    }
    return id;
}

const char *flags_chosen_plugin(const struct config *config, const struct config_flags *flags,
                                char *const *arguments)
{
    const struct config_section *section = config_section(config, flags->role, "");
    const struct drafter_option *option;
    const char *id, *plugin;

    if (!flags->plugin_kind)
        return NULL;
    option = table_find(flags->options, flags->plugin_kind);
    id = chosen_by_line(flags, arguments);
    if (!id && section)
        id = config_value(section, flags->plugin_kind);
    if (!id || !*id)
        id = option ? option->default_value : NULL;
    section = id ? config_section(config, flags->plugin_kind, id) : NULL;
    plugin = section ? config_value(section, "plugin") : NULL;
    return plugin ? plugin : id;
}
