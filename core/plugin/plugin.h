/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loaded plugins and their instances.  loader.c is the only file that calls dlopen; the adapters
 * (storage.c, transport.c, ...) are the only callers of plugin operations.
 */
#ifndef PLUGIN_PLUGIN_H
#define PLUGIN_PLUGIN_H

#include "config/config.h"
#include <drafter/plugin.h>
#include <pthread.h>

struct holder;

/* Our copy of a descriptor: zeroed, then the smaller of both sizes copied; `ops` likewise. */
struct plugin {
    void *handle;
    char *path;
    struct drafter_plugin descriptor;
    void *ops;
    unsigned references; /* protected by the loader's lock */
};

/*
 * Finds drafter-KIND-NAME.so in the plugin directory (built in; DRAFTER_PLUGIN_PATH, a colon list of
 * absolute directories, replaces it unless the process is set-id), or takes an absolute path.
 * Refuses world-writable files and directories, wrong magic, kind, ABI major, name and missing
 * mandatory operations; the message names file, found and wanted.
 */
int plugin_load(enum drafter_kind kind, const char *name, struct plugin **ret_plugin,
                struct drafter_error *err);
void plugin_unload(struct plugin *plugin);

/* Calls `visit` for each plugin file found, loadable or not (then plugin NULL and err filled). */
int plugin_foreach(int (*visit)(void *opaque, const char *path, const struct plugin *plugin,
                                const struct drafter_error *err),
                   void *opaque);

const char *plugin_kind_name(enum drafter_kind kind);              /* "transport" */
int plugin_kind_parse(const char *name, enum drafter_kind *ret_kind);

/* Writes where plugins of this kind and name are looked for: a colon list of directories. */
const char *plugin_search_path(void);

/* A plugin in use.  Layers hold the instance below in `next` (not owned by them). */
struct instance {
    struct plugin *plugin;
    void *data;   /* the plugin's */
    void *config; /* its config struct */
    struct config *settings; /* owns the strings in `config` */
    char *id;
    pthread_mutex_t lock; /* held around each call when the plugin serializes */
    struct instance *next;
    struct holder *holder; /* what outlives the process, or NULL */
    struct drafter_keeper keeper; /* as the plugin has it */
    _Atomic int flush_error; /* storage: the first failed flush, which every later one repeats */
    bool opened;             /* storage */
};

/*
 * Creates an instance from the section that configures it: `plugin = NAME`, `next = ID` (for the caller,
 * who gives the instance below in `next`) and the options of the plugin.
 * `next` may be NULL.  With `section` NULL the plugin named `fallback` runs on its defaults, changed
 * by `overrides` (NULL-terminated key, value, key, value ...; may be NULL), which also win over the
 * section.
 */
int instance_new(enum drafter_kind kind, const struct config_section *section, const char *fallback,
                 const char *const *overrides, const char *id, const char *directory,
                 struct instance *next, struct instance **ret_instance, struct drafter_error *err);

/* As instance_new, for a plugin that may leave something to `holder`, which outlives the instance. */
int instance_new_held(enum drafter_kind kind, const struct config_section *section,
                      const char *fallback, const char *const *overrides, const char *id,
                      const char *directory, struct instance *next, struct holder *holder,
                      struct instance **ret_instance, struct drafter_error *err);
void instance_free(struct instance *instance);

#endif
