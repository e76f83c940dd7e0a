/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instances of plugins.  The configuration of an instance is a copy of its section with the
 * overrides put in, so that the strings its config struct points to live exactly as long as it
 * does.
 */
#include "plugin/adapter.h"
#include "plugin/keeper.h"
#include "plugin/kinds.h"
#include "plugin/plugin.h"

#include "config/copy.h"
#include "util/cleanup.h"

#include <string.h>

int adapter_result(const struct instance *instance, const char *operation, int ret,
                   struct drafter_error *err)
{
    const struct drafter_plugin *descriptor = &instance->plugin->descriptor;

    ret = adapter_errno(ret);
    if (ret < 0 && err && err->code == 0)
        return drafter_error_errno(err, -ret, "%s plugin %s (%s): %s",
                                   plugin_kind_name(descriptor->kind), descriptor->name,
                                   instance->id, operation);
    return ret;
}

/* The plugin's name: override, section, fallback. */
static const char *plugin_name(const struct config_section *section, const char *fallback)
{
    const char *name = section ? config_value(section, "plugin") : NULL;

    return name ? name : fallback;
}

static int copy_settings(enum drafter_kind kind, const struct config_section *section,
                         const char *const *overrides, const char *id, struct instance *instance,
                         struct config_section **ret_copy, struct drafter_error *err)
{
    const char *kind_name = section ? section->kind : plugin_kind_name(kind);
    const char *copy_id = section ? section->id : id;
    int ret;

    instance->settings = section ? config_copy_section(section) : config_new("built-in defaults");
    if (!instance->settings)
        return drafter_error_errno(err, ENOMEM, "%s", id);
    for (size_t i = 0; overrides && overrides[i]; i += 2) {
        ret =
            config_set(instance->settings, kind_name, copy_id, overrides[i], overrides[i + 1], err);
        if (ret < 0)
            return ret;
    }
    *ret_copy = config_section(instance->settings, kind_name, copy_id);
    return 0;
}

static int load_plugin(enum drafter_kind kind, const struct config_section *copy,
                       const char *fallback, struct instance *instance, struct drafter_error *err)
{
    const char *name = plugin_name(copy, fallback);
    int ret;

    if (!name)
        return drafter_error_set(err, EINVAL, "%s: %s '%s' names no plugin: add plugin = NAME",
                                 copy ? config_where(copy, NULL) : "configuration",
                                 plugin_kind_name(kind), instance->id);
    ret = plugin_load(kind, name, &instance->plugin, err);
    if (ret < 0 && copy)
        return drafter_error_wrap(err, "%s", config_where(copy, "plugin"));
    return ret;
}

static int configure(const struct config_section *section, const struct config_section *copy,
                     struct instance *instance, struct drafter_error *err)
{
    static const char *const also[] = {"plugin", "next", NULL};
    const struct drafter_plugin *descriptor = &instance->plugin->descriptor;
    size_t size = descriptor->config_size;
    int ret;

    instance->config = calloc(1, size ? size : 1);
    if (!instance->config)
        return drafter_error_errno(err, ENOMEM, "%s", instance->id);
    ret = config_apply(copy, descriptor->options, also, instance->config, size, err);
    if (ret < 0)
        return ret;
    if (section)
        config_copy_marks(copy, section);
    return 0;
}

static int create(const char *directory, struct instance *instance, struct drafter_error *err)
{
    const struct drafter_context context = {
        .struct_size = sizeof(context),
        .id = instance->id,
        .directory = directory,
        .next = instance->next,
        .keeper = &instance->keeper,
    };
    int ret;

    ret = instance->plugin->descriptor.create(&context, instance->config, &instance->data, err);
    if (ret != 0)
        instance->data = NULL;
    return adapter_result(instance, "create", ret, err);
}

int instance_new(enum drafter_kind kind, const struct config_section *section, const char *fallback,
                 const char *const *overrides, const char *id, const char *directory,
                 struct instance *next, struct instance **ret_instance, struct drafter_error *err)
{
    return instance_new_held(kind, section, fallback, overrides, id, directory, next, NULL,
                             ret_instance, err);
}

int instance_new_held(enum drafter_kind kind, const struct config_section *section,
                      const char *fallback, const char *const *overrides, const char *id,
                      const char *directory, struct instance *next, struct holder *holder,
                      struct instance **ret_instance, struct drafter_error *err)
{
    struct instance *instance = calloc(1, sizeof(*instance));
    struct config_section *copy = NULL;
    int ret;

    if (!instance)
        return drafter_error_errno(err, ENOMEM, "%s", id);
    pthread_mutex_init(&instance->lock, NULL);
    instance->next = next;
    instance->holder = holder;
    keeper_init(instance);
    instance->id = strdup(id);
    ret = instance->id ? copy_settings(kind, section, overrides, id, instance, &copy, err)
                       : drafter_error_errno(err, ENOMEM, "%s", id);
    if (ret == 0)
        ret = load_plugin(kind, copy, fallback, instance, err);
    if (ret == 0)
        ret = configure(section, copy, instance, err);
    if (ret == 0)
        ret = create(directory, instance, err);
    if (ret < 0) {
        instance_free(instance);
        return ret;
    }
    *ret_instance = instance;
    return 0;
}

void instance_free(struct instance *instance)
{
    if (!instance)
        return;
    if (instance->data)
        instance->plugin->descriptor.destroy(instance->data);
    plugin_unload(instance->plugin);
    config_free(instance->settings);
    pthread_mutex_destroy(&instance->lock);
    free(instance->config);
    free(instance->id);
    free(instance);
}
