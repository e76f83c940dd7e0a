/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/describe.h"

#include "config/table.h"
#include "plugin/kinds.h"

#include <string.h>

static const char *thread_model(const struct drafter_plugin *descriptor)
{
    return descriptor->thread_model == DRAFTER_THREADS_PARALLEL ? "parallel" : "serialize-instance";
}

/* A descriptor's text may be missing. */
static const char *text_or(const char *text, const char *instead)
{
    return text && *text ? text : instead;
}

/* The default of a secret is one, too. */
static const char *shown_default(const struct drafter_option *option)
{
    return option->default_value && option->flags & DRAFTER_OPTION_SECRET ? "(secret)"
                                                                          : option->default_value;
}

static void print_operations(const struct plugin *plugin, bool present, FILE *stream)
{
    const struct plugin_kind *kind = plugin_kind_get(plugin->descriptor.kind);
    bool any = false;

    fprintf(stream, "  %-14s", present ? "operations" : "left out");
    for (const struct plugin_op *op = kind->ops; op->name; op++) {
        if (plugin_op_present(plugin->ops, op) != present)
            continue;
        fprintf(stream, "%s%s", any ? " " : "", op->name);
        any = true;
    }
    fprintf(stream, "%s\n", any ? "" : "none");
}

static void print_option(const struct drafter_option *option, FILE *stream)
{
    char range[256];
    const char *shown = shown_default(option);

    table_describe_range(option, range, sizeof(range));
    fprintf(stream, "  %-22s %s", option->key, table_type_name(option->type));
    if (option->unit)
        fprintf(stream, " in %s", option->unit);
    if (*range)
        fprintf(stream, ", %s", range);
    if (option->flags & DRAFTER_OPTION_REQUIRED)
        fprintf(stream, ", required");
    else if (shown)
        fprintf(stream, ", default %s", shown);
    if (option->flags & DRAFTER_OPTION_SECRET)
        fprintf(stream, ", secret");
    fprintf(stream, "\n      %s\n", text_or(option->help, "(no help)"));
}

void describe_options_text(const struct drafter_option *options, FILE *stream)
{
    fprintf(stream, "Options:%s\n", options && options->key ? "" : " none");
    for (; options && options->key; options++)
        print_option(options, stream);
}

void describe_text(const struct plugin *plugin, FILE *stream)
{
    const struct drafter_plugin *descriptor = &plugin->descriptor;

    fprintf(stream, "%s/%s %s: %s\n", plugin_kind_name(descriptor->kind), descriptor->name,
            text_or(descriptor->version, "(no version)"),
            text_or(descriptor->summary, "(no summary)"));
    fprintf(stream, "  %-14s%s\n", "file", plugin->path);
    fprintf(stream, "  %-14s%u.%u (this program: %u.%u)\n", "interface", descriptor->abi_major,
            descriptor->abi_minor, DRAFTER_ABI_MAJOR, DRAFTER_ABI_MINOR);
    fprintf(stream, "  %-14s%s\n", "licence", text_or(descriptor->license, "(not stated)"));
    fprintf(stream, "  %-14s%s\n", "threads", thread_model(descriptor));
    print_operations(plugin, true, stream);
    print_operations(plugin, false, stream);
    fprintf(stream, "  %-14s%s\n", "probe", descriptor->probe ? "yes" : "no");
    describe_options_text(descriptor->options, stream);
}

static json_t *json_text(const char *text)
{
    return text ? json_stringn_nocheck(text, strlen(text)) : json_null();
}

static json_t *operations_json(const struct plugin *plugin)
{
    const struct plugin_kind *kind = plugin_kind_get(plugin->descriptor.kind);
    json_t *operations = json_array();

    for (const struct plugin_op *op = kind->ops; op->name; op++)
        if (plugin_op_present(plugin->ops, op))
            json_array_append_new(operations, json_string(op->name));
    return operations;
}

static json_t *option_json(const struct drafter_option *option)
{
    json_t *object = json_object(), *choices;

    json_object_set_new(object, "key", json_text(option->key));
    json_object_set_new(object, "type", json_string(table_type_name(option->type)));
    json_object_set_new(object, "required", json_boolean(option->flags & DRAFTER_OPTION_REQUIRED));
    json_object_set_new(object, "secret", json_boolean(option->flags & DRAFTER_OPTION_SECRET));
    json_object_set_new(object, "default", json_text(shown_default(option)));
    if (option->minimum || option->maximum) {
        json_object_set_new(object, "minimum", json_integer((json_int_t)option->minimum));
        json_object_set_new(object, "maximum", json_integer((json_int_t)option->maximum));
    }
    if (option->type == DRAFTER_OPTION_ENUM) {
        choices = json_array();
        for (const char *const *choice = option->choices; *choice; choice++)
            json_array_append_new(choices, json_text(*choice));
        json_object_set_new(object, "choices", choices);
    }
    json_object_set_new(object, "unit", json_text(option->unit));
    json_object_set_new(object, "help", json_text(option->help));
    return object;
}

json_t *describe_options_json(const struct drafter_option *options)
{
    json_t *array = json_array();

    for (; options && options->key; options++)
        json_array_append_new(array, option_json(options));
    return array;
}

json_t *describe_json(const struct plugin *plugin)
{
    const struct drafter_plugin *descriptor = &plugin->descriptor;
    json_t *object = json_object();
    char abi[16];

    snprintf(abi, sizeof(abi), "%u.%u", descriptor->abi_major, descriptor->abi_minor);
    json_object_set_new(object, "kind", json_string(plugin_kind_name(descriptor->kind)));
    json_object_set_new(object, "name", json_text(descriptor->name));
    json_object_set_new(object, "version", json_text(descriptor->version));
    json_object_set_new(object, "summary", json_text(descriptor->summary));
    json_object_set_new(object, "path", json_text(plugin->path));
    json_object_set_new(object, "abi", json_string(abi));
    json_object_set_new(object, "license", json_text(descriptor->license));
    json_object_set_new(object, "threads", json_string(thread_model(descriptor)));
    json_object_set_new(object, "probe", json_boolean(descriptor->probe != NULL));
    json_object_set_new(object, "operations", operations_json(plugin));
    json_object_set_new(object, "options", describe_options_json(descriptor->options));
    return object;
}
