/* SPDX-License-Identifier: BSD-2-Clause */
/* Flags whose value is a JSON list of objects, each of which becomes a section. */
#include "config/flags-internal.h"

#include "config/tree.h"
#include "util/cleanup.h"
#include "util/json.h"

#include <string.h>

static int set_member(struct config *config, const struct config_flag *flag, const char *id,
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
    if (flags_check_value(flag->name, text, err) < 0)
        return -EINVAL;
    return *text ? config_set(config, flag->kind, id, key, text, err) : 0;
}

/* A number from `first` on that is no section's id yet: where there are no others, the first one. */
static void free_id(const struct config *config, const char *kind, size_t first, char *id,
                    size_t size)
{
    for (size_t i = first; i < first + CONFIG_SECTIONS_MAX; i++) {
        snprintf(id, size, "%zu", i);
        if (!config_section(config, kind, id))
            return;
    }
}

static int set_object(struct config *config, const struct config_flag *flag, size_t index,
                      json_t *object, struct drafter_error *err)
{
    char number[24];
    const char *id = number, *key;
    json_t *value;

    if (!json_is_object(object))
        return drafter_error_set(err, EINVAL, "--%s: wanted a list of objects", flag->name);
    if (flag->key)
        id = json_string_value(json_object_get(object, flag->key));
    else
        free_id(config, flag->kind, index + 1, number, sizeof(number));
    if (!id || !*id)
        return drafter_error_set(err, EINVAL, "--%s: an object lacks \"%s\"", flag->name, flag->key);
    if (flags_check_value(flag->name, id, err) < 0)
        return -EINVAL;
    json_object_foreach(object, key, value)
    {
        int ret = flag->key && !strcmp(key, flag->key)
                      ? 0
                      : set_member(config, flag, id, key, value, err);

        if (ret < 0)
            return ret;
    }
    if (!config_section(config, flag->kind, id)) /* nothing but a name, or nothing at all */
        return drafter_error_set(err, EINVAL, "--%s: an object says nothing", flag->name);
    return 0;
}

int flags_set_objects(struct config *config, const struct config_flag *flag, const char *text,
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
        int ret = set_object(config, flag, index, object, err);

        if (ret < 0)
            return ret;
    }
    return 0;
}
