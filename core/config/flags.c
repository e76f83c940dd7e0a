/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/flags.h"

#include "config/flags-internal.h"
#include "config/suggest.h"
#include "config/table.h"
#include "config/tree.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <assert.h>
#include <string.h>

#define FLAGS_MAX 256 /* of one role, for suggestions */
#define TABLE_MAX 64  /* in its table: the bits of `seen` */

/* A line is read thrice: some flags decide what others mean. */
enum pass {
    PASS_LOOK,      /* which flags are there */
    PASS_OWN,       /* fills the sections of which there is one, which choose instances */
    PASS_INSTANCES, /* and all others */
    PASS_COUNT,
};

/* One run over a command line. */
struct line {
    struct config *config;
    const struct config_flags *flags;
    const struct drafter_option *plugin; /* options of the chosen plugin, or NULL */
    uint64_t seen;                       /* by index in the table */
    enum config_flag_model model;
    const char *modelled_by; /* the flag that said so */
    enum pass pass;
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

/* A flag of a plugin that does not know it is none. */
static bool fits_plugin(const struct line *line, const struct config_flag *flag)
{
    const char *kind = line->flags->plugin_kind;

    return !kind || strcmp(flag->kind, kind) != 0 || table_find(line->plugin, flag->key);
}

/* The role's table wins over its keys, those over the node's, and all over the plugin's. */
static bool find(struct line *line, const char *name, struct config_flag *ret_flag)
{
    const struct config_flags *flags = line->flags;
    const struct drafter_option *option;

    for (unsigned i = 0; flags->flags && flags->flags[i].name; i++) {
        assert(i < TABLE_MAX);
        if (!suggest_same(flags->flags[i].name, name) || !fits_plugin(line, &flags->flags[i]))
            continue;
        line->seen |= UINT64_C(1) << i;
        *ret_flag = flags->flags[i];
        return true;
    }
    if ((option = table_find(flags->options, name)) != NULL)
        *ret_flag = from_option(flags->role, option);
    else if ((option = table_find(flags->node, name)) != NULL && strcmp(option->key, "role") != 0)
        *ret_flag = from_option("drafter", option);
    else if ((option = table_find(line->plugin, name)) != NULL)
        *ret_flag = from_option(flags->plugin_kind, option);
    else if (strcmp(name, set_flag.name) == 0)
        *ret_flag = set_flag;
    else
        return false;
    return true;
}

static unsigned collect(const struct drafter_option *options, const char **names, unsigned count)
{
    for (; options && options->key && count < FLAGS_MAX; options++)
        if (strcmp(options->key, "role") != 0)
            names[count++] = options->key;
    return count;
}

static int unknown(const struct line *line, const char *name, struct drafter_error *err)
{
    const struct config_flags *flags = line->flags;
    const char *names[FLAGS_MAX], *nearest;
    unsigned count = 0;

    for (unsigned i = 0; flags->flags && flags->flags[i].name && count < FLAGS_MAX; i++)
        names[count++] = flags->flags[i].name;
    count = collect(flags->options, names, count);
    count = collect(flags->node, names, count);
    count = collect(line->plugin, names, count);
    nearest = suggest_nearest(name, names, count);
    if (nearest && strcmp(nearest, name) != 0)
        return drafter_error_set(err, EINVAL, "%s has no flag --%.64s; did you mean --%s?",
                                 flags->role, name, nearest);
    return drafter_error_set(err, EINVAL, "%s has no flag --%.64s; see drafter %s --help",
                             flags->role, name, flags->role);
}

int flags_check_value(const char *name, const char *value, struct drafter_error *err)
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

    *ret_id = flag->id ? flag->id : "";
    *ret_instance = false;
    if (flag->id || is_own(flags, flag->kind))
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

/* A switch that stands for a value of its key: 0 and the value, or -EALREADY when it is off. */
static int switch_value(const struct config_flag *flag, const char **value,
                        struct drafter_error *err)
{
    bool on;

    if (table_parse_bool(*value, &on) < 0)
        return drafter_error_set(err, EINVAL, "--%s: '%.64s' is not yes or no", flag->name, *value);
    *value = flag->value;
    return on ? 0 : -EALREADY;
}

static int set_text(struct line *line, const struct config_flag *flag, const char *value,
                    struct drafter_error *err)
{
    bool bare = flag->unit && *value && !value[strspn(value, "0123456789")];
    cleanup_free char *number = NULL;
    int ret = flags_check_value(flag->name, value, err);

    if (ret == 0 && flag->value)
        ret = switch_value(flag, &value, err);
    if (ret < 0)
        return ret == -EALREADY ? 0 : ret;
    if (bare && asprintf(&number, "%s%s", value, flag->unit) < 0) {
        number = NULL;
        return drafter_error_errno(err, ENOMEM, "--%s", flag->name);
    }
    return *flag->kind ? set_value(line, flag, bare ? number : value, err)
                       : set_any(line, value, err);
}

/* The kinds of lines exclude each other; the first flag of either decides. */
static int look(struct line *line, const struct config_flag *flag, struct drafter_error *err)
{
    if (!flag->model)
        return 0;
    if (line->modelled_by && line->model != flag->model)
        return drafter_error_set(err, EINVAL,
                                 "--%s and --%s exclude each other: devices have one address "
                                 "together, or one each",
                                 line->modelled_by, flag->name);
    line->model = flag->model;
    line->modelled_by = flag->name;
    return 0;
}

static int set_flag_value(struct line *line, const struct config_flag *flag, const char *value,
                          struct drafter_error *err)
{
    if (line->pass == PASS_LOOK)
        return look(line, flag, err);
    if (flag->ignored) {
        if (line->pass == PASS_OWN)
            log_warning("drafter", "--%s has no effect: %s", flag->name, flag->ignored);
        return 0;
    }
    if (is_own(line->flags, flag->kind) != (line->pass == PASS_OWN))
        return 0;
    if (flag->form == CONFIG_FLAG_OBJECTS) /* JSON has its own rules for control characters */
        return flags_set_objects(line->config, flag, value, err);
    return set_text(line, flag, value, err);
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
        return unknown(line, name, err);
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

/* A plugin to which a key means nothing is not given it unasked. */
static bool wants_default(const struct line *line, const struct config_flag *flag)
{
    const char *kind = line->flags->plugin_kind;
    const struct drafter_option *option;

    if (!kind || strcmp(flag->kind, kind) != 0)
        return true;
    option = table_find(line->plugin, flag->key);
    return option && !(option->flags & DRAFTER_OPTION_IGNORED);
}

/* Those of flags that the line does not have, ahead of the ones that it has. */
static int set_defaults(struct line *line, struct drafter_error *err)
{
    const struct config_flag *flag = line->flags->flags;
    int ret = 0;

    for (unsigned i = 0; !line->config->from_file && flag && flag->name && ret == 0; i++, flag++) {
        if (!flag->default_value || line->seen >> i & 1 || !wants_default(line, flag) ||
            (flag->model && flag->model != line->model))
            continue;
        ret = set_flag_value(line, flag, flag->default_value, err);
    }
    return ret;
}

int config_set_flags(struct config *config, const struct config_flags *flags,
                     char *const *arguments, struct drafter_error *err)
{
    struct line line = {.config = config, .flags = flags, .model = flags->bare};
    const char *plugin = flags_chosen_plugin(config, flags, arguments);
    int ret = 0;

    if (plugin)
        line.plugin = flags->plugin_options(flags->opaque, flags->plugin_kind, plugin);
    for (; line.pass < PASS_COUNT && ret == 0; line.pass++) {
        char *const *at = arguments;

        if (line.pass != PASS_LOOK)
            ret = set_defaults(&line, err);
        while (*at && ret == 0)
            ret = take(&line, &at, err);
    }
    return ret;
}

/* ---- what there is */

/* Whether the role's table says what a name means. */
static bool is_in_table(const struct config_flags *flags, const char *name)
{
    for (const struct config_flag *flag = flags->flags; flag && flag->name; flag++)
        if (suggest_same(flag->name, name))
            return true;
    return false;
}

static void show_options(const struct config_flags *flags, const struct drafter_option *option,
                         const char *name, config_flag_fn *show, void *opaque)
{
    for (; option && option->key; option++) {
        bool is_name = name && strcmp(option->key, "name") == 0;
        const struct config_shown shown = {
            .name = option->key,
            .type = table_type_name(option->type),
            .default_value = is_name ? name : option->default_value,
            .help = option->help,
            .is_switch = option->type == DRAFTER_OPTION_BOOL,
        };

        if (!(option->flags & DRAFTER_OPTION_SECRET) && strcmp(option->key, "role") != 0 &&
            !is_in_table(flags, option->key))
            show(opaque, &shown);
    }
}

static void show_table(const struct config_flag *flag, config_flag_fn *show, void *opaque)
{
    static const char *const types[] = {"string", "boolean", "JSON"};

    for (; flag && flag->name; flag++) {
        const struct config_shown shown = {
            .name = flag->name,
            .type = types[flag->form],
            .default_value = flag->default_value ? flag->default_value : flag->plugin_default,
            .help = flag->ignored ? flag->ignored : flag->help,
            .is_switch = flag->form == CONFIG_FLAG_SWITCH,
        };

        show(opaque, &shown);
    }
}

void config_show_flags(const struct config_flags *flags, config_flag_fn *show, void *opaque)
{
    const struct config_shown set = {.name = "set",
                                     .type = "SECTION.KEY=VALUE",
                                     .help = "any other key of the configuration"};

    show_options(flags, flags->options, NULL, show, opaque);
    show_table(flags->flags, show, opaque);
    show_options(flags, flags->node, flags->name, show, opaque);
    show(opaque, &set);
}

const char *config_show_plugin_flags(const struct config_flags *flags, config_flag_fn *show,
                                     void *opaque)
{
    static char *const no_arguments[] = {NULL};
    struct config *none = config_new("");
    const char *plugin = none ? flags_chosen_plugin(none, flags, no_arguments) : NULL;

    if (plugin)
        show_options(flags, flags->plugin_options(flags->opaque, flags->plugin_kind, plugin), NULL,
                     show, opaque);
    config_free(none);
    return plugin;
}
