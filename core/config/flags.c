/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/flags.h"

#include "config/suggest.h"
#include "config/table.h"
#include "config/tree.h"
#include "util/cleanup.h"
#include "util/json.h"

#include <assert.h>
#include <string.h>

#define FLAGS_MAX 128 /* of one role, for suggestions */
#define TABLE_MAX 64  /* in its table: the bits of `seen` */

/* One run over a command line. */
struct line {
    struct config *config;
    const struct config_flags *flags;
    uint64_t seen;  /* in this pass, by index in the table */
    bool instances; /* this pass fills the sections of instances, the one before those that choose them */
};

static struct config_flag from_option(const char *kind, const struct drafter_option *option)
{
    bool is_switch = option->type == DRAFTER_OPTION_BOOL;

    return (struct config_flag){.name = option->key,
                                .kind = kind,
                                .key = option->key,
                                .form = is_switch ? CONFIG_FLAG_SWITCH : CONFIG_FLAG_TEXT};
}

static const struct config_flag set_flag = {.name = "set", .kind = "", .form = CONFIG_FLAG_TEXT};

/* The role's table wins over its keys, and both over the node's. */
static bool find(struct line *line, const char *name, struct config_flag *ret_flag)
{
    const struct config_flags *flags = line->flags;
    const struct drafter_option *option;

    for (unsigned i = 0; flags->flags && flags->flags[i].name; i++) {
        assert(i < TABLE_MAX);
        if (!suggest_same(flags->flags[i].name, name))
            continue;
        line->seen |= UINT64_C(1) << i;
        *ret_flag = flags->flags[i];
        return true;
    }
    if ((option = table_find(flags->options, name)) != NULL)
        *ret_flag = from_option(flags->role, option);
    else if ((option = table_find(flags->node, name)) != NULL && strcmp(option->key, "role") != 0)
        *ret_flag = from_option("drafter", option);
    else if (strcmp(name, set_flag.name) == 0)
        *ret_flag = set_flag;
    else
        return false;
    return true;
}

static int unknown(const struct config_flags *flags, const char *name, struct drafter_error *err)
{
    const char *names[FLAGS_MAX], *nearest;
    unsigned count = 0;

    for (unsigned i = 0; flags->flags && flags->flags[i].name && count < FLAGS_MAX; i++)
        names[count++] = flags->flags[i].name;
    for (unsigned i = 0; flags->options[i].key && count < FLAGS_MAX; i++)
        names[count++] = flags->options[i].key;
    for (unsigned i = 0; flags->node[i].key && count < FLAGS_MAX; i++)
        if (strcmp(flags->node[i].key, "role") != 0)
            names[count++] = flags->node[i].key;
    nearest = suggest_nearest(name, names, count);
    if (nearest)
        return drafter_error_set(err, EINVAL, "%s has no flag --%.64s; did you mean --%s?",
                                 flags->role, name, nearest);
    return drafter_error_set(err, EINVAL, "%s has no flag --%.64s; see drafter %s --help",
                             flags->role, name, flags->role);
}

/* The language of values is that of files. */
static int check_value(const char *name, const char *value, struct drafter_error *err)
{
    for (const char *at = value; *at; at++)
        if (((unsigned char)*at < 0x20 && *at != '\t') || *at == 0x7f)
            return drafter_error_set(err, EINVAL, "--%s: found control character 0x%02x", name,
                                     (unsigned char)*at);
    return 0;
}

/* Sections that there is one of, and that say which the others are. */
static bool is_own(const struct config_flags *flags, const char *kind)
{
    return !strcmp(kind, flags->role) || !strcmp(kind, "drafter");
}

/* Which section a flag means, and whether that is an instance's. */
static int find_section(const struct line *line, const struct config_flag *flag,
                        const char **ret_id, bool *ret_instance, struct drafter_error *err)
{
    const struct config_flags *flags = line->flags;
    const struct config_section *role = config_section(line->config, flags->role, "");
    const struct drafter_option *choice;
    const char *id;

    *ret_id = "";
    *ret_instance = false;
    if (is_own(flags, flag->kind))
        return 0;
    choice = table_find(flags->options, flag->kind);
    id = role ? config_value(role, flag->kind) : NULL;
    if (!id && choice)
        id = choice->default_value;
    if (!id)
        return drafter_error_set(err, EINVAL, "--%s needs --%s ID", flag->name, flag->kind);
    *ret_id = id;
    *ret_instance = true;
    return 0;
}

/* A section that only the command line has is of the plugin that it is named like. */
static int set_value(struct line *line, const struct config_flag *flag, const char *value,
                     struct drafter_error *err)
{
    bool instance;
    const char *id;
    int ret = find_section(line, flag, &id, &instance, err);

    if (ret < 0)
        return ret;
    if (instance && !config_section(line->config, flag->kind, id))
        ret = config_set(line->config, flag->kind, id, "plugin", id, err);
    if (ret < 0)
        return ret;
    if (!*value && !instance) {
        config_unset(line->config, flag->kind, id, flag->key);
        return 0;
    }
    return config_set(line->config, flag->kind, id, flag->key, value, err);
}

/* SECTION.KEY=VALUE */
static int set_any(struct line *line, const char *text, struct drafter_error *err)
{
    const char *equals = strchr(text, '=');
    cleanup_free char *name = strndup(text, equals ? (size_t)(equals - text) : 0);
    char *key, *id;

    if (!name)
        return drafter_error_errno(err, ENOMEM, "--set");
    key = strrchr(name, '.');
    if (!equals || !key || key == name || !key[1])
        return drafter_error_set(err, EINVAL, "--set %.64s: wanted SECTION.KEY=VALUE", text);
    *key++ = '\0';
    id = strchr(name, ':');
    if (id)
        *id++ = '\0';
    return config_set(line->config, name, id ? id : "", key, equals + 1, err);
}

static int set_member(struct line *line, const struct config_flag *flag, const char *id,
                      const char *key, const json_t *value, struct drafter_error *err)
{
    char number[32];
    const char *text;

    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        text = number;
    } else if (json_is_string(value)) {
        text = json_string_value(value);
    } else if (json_is_boolean(value)) {
        text = json_is_true(value) ? "yes" : "no";
    } else {
        return drafter_error_set(err, EINVAL, "--%s: \"%.64s\" is neither text nor a number nor a "
                                 "truth value", flag->name, key);
    }
    if (check_value(flag->name, text, err) < 0)
        return -EINVAL;
    return *text ? config_set(line->config, flag->kind, id, key, text, err) : 0;
}

/* The first number that is no section's id yet. */
static void free_id(const struct config *config, const char *kind, char *id, size_t size)
{
    for (unsigned i = 1; i <= CONFIG_SECTIONS_MAX; i++) {
        snprintf(id, size, "%u", i);
        if (!config_section(config, kind, id))
            return;
    }
}

static int set_object(struct line *line, const struct config_flag *flag, json_t *object,
                      struct drafter_error *err)
{
    char number[16];
    const char *id = number, *key;
    json_t *value;

    if (!json_is_object(object))
        return drafter_error_set(err, EINVAL, "--%s: wanted a list of objects", flag->name);
    if (flag->key)
        id = json_string_value(json_object_get(object, flag->key));
    else
        free_id(line->config, flag->kind, number, sizeof(number));
    if (!id || !*id)
        return drafter_error_set(err, EINVAL, "--%s: an object lacks \"%s\"", flag->name, flag->key);
    if (check_value(flag->name, id, err) < 0)
        return -EINVAL;
    json_object_foreach(object, key, value)
    {
        int ret = flag->key && !strcmp(key, flag->key)
                      ? 0
                      : set_member(line, flag, id, key, value, err);

        if (ret < 0)
            return ret;
    }
    if (!config_section(line->config, flag->kind, id)) /* nothing but a name, or nothing at all */
        return drafter_error_set(err, EINVAL, "--%s: an object says nothing", flag->name);
    return 0;
}

static int set_objects(struct line *line, const struct config_flag *flag, const char *text,
                       struct drafter_error *err)
{
    json_error_t fault;
    cleanup_json json_t *list = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    size_t index;
    json_t *object;

    if (!list)
        return drafter_error_set(err, EINVAL, "--%s: column %d: %.200s", flag->name, fault.column,
                                 fault.text);
    if (!json_is_array(list))
        return drafter_error_set(err, EINVAL, "--%s: wanted a list of objects", flag->name);
    json_array_foreach(list, index, object)
    {
        int ret = set_object(line, flag, object, err);

        if (ret < 0)
            return ret;
    }
    return 0;
}

static int set_flag_value(struct line *line, const struct config_flag *flag, const char *value,
                          struct drafter_error *err)
{
    if (is_own(line->flags, flag->kind) == line->instances)
        return 0;
    if (flag->form == CONFIG_FLAG_OBJECTS) /* JSON has its own rules for control characters */
        return set_objects(line, flag, value, err);
    if (check_value(flag->name, value, err) < 0)
        return -EINVAL;
    return *flag->kind ? set_value(line, flag, value, err) : set_any(line, value, err);
}

/* Takes the flag at *at and its value, which may be the next argument. */
static int take(struct line *line, char *const **at, struct drafter_error *err)
{
    const char *word = **at, *equals = strchr(word, '='), *value = NULL;
    cleanup_free char *name = NULL;
    struct config_flag flag;

    if (*word != '-' || !word[1])
        return drafter_error_set(err, EINVAL, "%s takes no argument \"%.64s\"", line->flags->role,
                                 word);
    word += word[1] == '-' ? 2 : 1;
    name = strndup(word, equals ? (size_t)(equals - word) : strlen(word));
    if (!name)
        return drafter_error_errno(err, ENOMEM, "command line");
    if (!find(line, name, &flag))
        return unknown(line->flags, name, err);
    if (equals)
        value = equals + 1;
    else if (flag.form == CONFIG_FLAG_SWITCH)
        value = "yes";
    else if ((*at)[1])
        value = *++*at;
    else
        return drafter_error_set(err, EINVAL, "--%s needs a value", flag.name);
    ++*at;
    return set_flag_value(line, &flag, value, err);
}

/* Values before the flags that replace them; objects, which nothing replaces, behind them. */
static int set_defaults(struct line *line, bool objects, struct drafter_error *err)
{
    const struct config_flag *flag = line->flags->flags;
    int ret = 0;

    for (unsigned i = 0; !line->config->from_file && flag && flag->name && ret == 0; i++, flag++) {
        if ((flag->form == CONFIG_FLAG_OBJECTS) != objects || (line->seen >> i & 1))
            continue;
        if (flag->default_value)
            ret = set_flag_value(line, flag, flag->default_value, err);
    }
    return ret;
}

int config_set_flags(struct config *config, const struct config_flags *flags,
                     char *const *arguments, struct drafter_error *err)
{
    struct line line = {.config = config, .flags = flags};
    int ret = 0;

    for (int pass = 0; pass < 2 && ret == 0; pass++) {
        char *const *at = arguments;

        line.instances = pass == 1;
        line.seen = 0;
        ret = set_defaults(&line, false, err);
        while (*at && ret == 0)
            ret = take(&line, &at, err);
        if (ret == 0)
            ret = set_defaults(&line, true, err);
    }
    return ret;
}

/* ---- what there is */

static void print_flag(const char *name, const char *type, const char *default_value,
                       const char *help, FILE *stream)
{
    fprintf(stream, "  --%-32s %s%s%s%s\n      %s\n", name, type, default_value ? " (default " : "",
            default_value ? default_value : "", default_value ? ")" : "", help ? help : "");
}

static void print_options(const struct drafter_option *option, const char *name, FILE *stream)
{
    for (; option->key; option++) {
        bool is_name = name && strcmp(option->key, "name") == 0;

        if (!(option->flags & DRAFTER_OPTION_SECRET) && strcmp(option->key, "role") != 0)
            print_flag(option->key, table_type_name(option->type),
                       is_name ? name : option->default_value, option->help, stream);
    }
}

void config_print_flags(const struct config_flags *flags, FILE *stream)
{
    static const char *const types[] = {"string", "boolean", "JSON"};

    print_options(flags->options, NULL, stream);
    for (const struct config_flag *flag = flags->flags; flag && flag->name; flag++)
        print_flag(flag->name, types[flag->form],
                   flag->default_value ? flag->default_value : flag->plugin_default, flag->help,
                   stream);
    print_options(flags->node, flags->name, stream);
    print_flag("set", "SECTION.KEY=VALUE", NULL, "any other key of the configuration", stream);
}
