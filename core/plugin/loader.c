/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads plugins: the only file that calls dlopen.
 *
 * A shared object is refused before a line of it runs unless it and its directory belong to root or
 * to the effective user and nobody else may write them.  What it exports is then checked from the
 * outside in, each check relying on the ones before: entry symbol, magic, ABI major, struct size,
 * kind, name, mandatory operations, option table.  Magic, major and struct size stand first in the
 * descriptor and never move; nothing behind them is read before they are known to be good.
 *
 * The rest of the program sees only our copy, which has our sizes: what a plugin built against an
 * older header lacks is NULL in it, what a newer one has more is cut off.
 */
#include "plugin/kinds.h"
#include "plugin/plugin.h"

#include "config/table.h"
#include "plugin/search.h"
#include "util/cleanup.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define STRUCT_SIZE_MAX 65536 /* more is not a struct size but a mistake */
#define CONFIG_SIZE_MAX (1u << 20)
/* The descriptor of interface 1.0; later minors only add behind it. */
#define DESCRIPTOR_SIZE_MIN (offsetof(struct drafter_plugin, ops) + sizeof(void *))

typedef const struct drafter_plugin *(*plugin_entry)(void);

/* Plugins in use, by resolved path.  The lock also makes loading one at a time. */
static struct {
    pthread_mutex_t lock;
    struct loaded {
        struct plugin plugin;
        struct loaded *next;
    } * first;
} loader = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int check_owner(const char *file, const char *path, bool want_directory,
                       struct drafter_error *err)
{
    const char *what = want_directory ? "directory" : "file";
    struct stat status;

    if (stat(path, &status) != 0)
        return drafter_error_errno(err, errno, "%s", path);
    if (want_directory ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode))
        return drafter_error_set(err, EINVAL, "%s: found something else, wanted a %s", path, what);
    if (status.st_mode & S_IWOTH)
        return drafter_error_set(
            err, EPERM,
            "%s: found mode %04o of %s, which everybody can write, wanted a %s "
            "that only its owner can",
            file, (unsigned)status.st_mode & 07777, strcmp(file, path) == 0 ? "it" : path, what);
    if (status.st_uid != 0 && status.st_uid != geteuid())
        return drafter_error_set(err, EPERM, "%s: found owner %u of %s, wanted 0 or %u", file,
                                 (unsigned)status.st_uid, strcmp(file, path) == 0 ? "it" : path,
                                 (unsigned)geteuid());
    return 0;
}

static int check_parent(const char *file, const char *path, struct drafter_error *err)
{
    cleanup_free char *directory = strdup(path);
    char *slash;

    if (!directory)
        return drafter_error_errno(err, ENOMEM, "%s", file);
    slash = strrchr(directory, '/');
    if (!slash)
        return drafter_error_set(err, EINVAL, "%s: found a relative path, wanted an absolute one",
                                 file);
    slash[slash == directory] = '\0';
    return check_owner(file, directory, true, err);
}

/* The path itself may be a symbolic link: both the link's directory and the target's must be safe.
 */
static int check_file(const char *file, const char *resolved, struct drafter_error *err)
{
    int ret;

    ret = check_parent(file, file, err);
    if (ret < 0)
        return ret;
    ret = check_owner(file, resolved, false, err);
    if (ret < 0)
        return ret;
    return check_parent(file, resolved, err);
}

static int check_header(const char *file, const struct drafter_plugin *found,
                        struct drafter_error *err)
{
    if (!found)
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found no descriptor (drafter_plugin_entry() returned NULL), "
                                 "wanted one",
                                 file);
    if (found->magic != DRAFTER_PLUGIN_MAGIC)
        return drafter_error_set(err, ENOEXEC, "%s: found magic 0x%08x, wanted 0x%08x", file,
                                 (unsigned)found->magic, (unsigned)DRAFTER_PLUGIN_MAGIC);
    if (found->abi_major != DRAFTER_ABI_MAJOR)
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found plugin interface %u.%u, wanted major version %u", file,
                                 found->abi_major, found->abi_minor, DRAFTER_ABI_MAJOR);
    if (found->struct_size < DESCRIPTOR_SIZE_MIN || found->struct_size > STRUCT_SIZE_MAX)
        return drafter_error_set(
            err, ENOEXEC, "%s: found a descriptor of %u bytes, wanted %zu to %u", file,
            (unsigned)found->struct_size, DESCRIPTOR_SIZE_MIN, (unsigned)STRUCT_SIZE_MAX);
    return 0;
}

static int check_name(const char *file, const struct drafter_plugin *found, const char *kind,
                      const char *wanted, struct drafter_error *err)
{
    const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    char expected[NAME_MAX + 1];

    if (!found->name || !search_valid_name(found->name))
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found a name that is missing or not of the letters a-z, "
                                 "digits and dashes, wanted one",
                                 file);
    if (wanted && strcmp(found->name, wanted) != 0)
        return drafter_error_set(err, ENOEXEC, "%s: found plugin '%s', wanted '%s'", file,
                                 found->name, wanted);
    snprintf(expected, sizeof(expected), "drafter-%s-%s.so", kind, found->name);
    if (strcmp(base, expected) != 0)
        return drafter_error_set(err, ENOEXEC, "%s: found plugin '%s', wanted file name %s", file,
                                 found->name, expected);
    return 0;
}

/* A kind of 0 accepts every kind. */
static int check_identity(const char *file, const struct drafter_plugin *found,
                          enum drafter_kind wanted_kind, const char *wanted_name,
                          struct drafter_error *err)
{
    const struct plugin_kind *kind = plugin_kind_get(found->kind);

    if (!kind)
        return drafter_error_set(err, ENOEXEC, "%s: found kind %u, wanted %s", file,
                                 (unsigned)found->kind,
                                 wanted_kind ? plugin_kind_name(wanted_kind) : "1 to 5");
    if (wanted_kind && found->kind != wanted_kind)
        return drafter_error_set(err, ENOEXEC, "%s: found a %s plugin, wanted a %s plugin", file,
                                 kind->name, plugin_kind_name(wanted_kind));
    return check_name(file, found, kind->name, wanted_name, err);
}

static int check_operations(const char *file, const struct plugin *plugin,
                            struct drafter_error *err)
{
    const struct plugin_kind *kind = plugin_kind_get(plugin->descriptor.kind);
    const struct drafter_plugin *descriptor = &plugin->descriptor;

    if (!descriptor->create || !descriptor->destroy)
        return drafter_error_set(err, ENOEXEC, "%s: found no %s(), wanted one", file,
                                 descriptor->create ? "destroy" : "create");
    for (const struct plugin_op *op = kind->ops; op->name; op++)
        if (op->mandatory && !plugin_op_present(plugin->ops, op))
            return drafter_error_set(
                err, ENOEXEC, "%s: found no operation %s(), wanted it: every %s plugin has one",
                file, op->name, kind->name);
    if (descriptor->thread_model > DRAFTER_THREADS_SERIALIZE_INSTANCE)
        return drafter_error_set(err, ENOEXEC, "%s: found thread model %u, wanted 0 or 1", file,
                                 (unsigned)descriptor->thread_model);
    if (descriptor->thread_model != DRAFTER_THREADS_PARALLEL && !kind->may_serialize)
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found thread model serialize-instance, wanted parallel: the "
                                 "operations of a %s wait for each other",
                                 file, kind->name);
    return 0;
}

static int copy_descriptor(const char *file, const struct drafter_plugin *found,
                           struct plugin *plugin, struct drafter_error *err)
{
    const struct plugin_kind *kind = plugin_kind_get(found->kind);
    struct drafter_plugin *copy = &plugin->descriptor;
    size_t size = found->struct_size < sizeof(*copy) ? found->struct_size : sizeof(*copy);
    int ret;

    memset(copy, 0, sizeof(*copy));
    memcpy(copy, found, size);
    if (!copy->ops)
        return drafter_error_set(err, ENOEXEC, "%s: found no table of operations, wanted one",
                                 file);
    if (copy->ops_size < sizeof(void *) || copy->ops_size > STRUCT_SIZE_MAX)
        return drafter_error_set(
            err, ENOEXEC, "%s: found a table of operations of %u bytes, wanted %zu to %u", file,
            (unsigned)copy->ops_size, sizeof(void *), (unsigned)STRUCT_SIZE_MAX);
    plugin->ops = calloc(1, kind->ops_size);
    if (!plugin->ops)
        return drafter_error_errno(err, ENOMEM, "%s", file);
    memcpy(plugin->ops, copy->ops,
           copy->ops_size < kind->ops_size ? copy->ops_size : kind->ops_size);
    ret = check_operations(file, plugin, err);
    if (ret < 0)
        return ret;
    copy->ops = plugin->ops;
    if (copy->config_size > CONFIG_SIZE_MAX)
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found a configuration of %zu bytes, wanted at most %u", file,
                                 copy->config_size, CONFIG_SIZE_MAX);
    ret = table_check(copy->options, copy->config_size, err);
    return ret < 0 ? drafter_error_wrap(err, "%s", file) : 0;
}

static void loaded_free(struct loaded *entry)
{
    if (!entry)
        return;
    free(entry->plugin.ops);
    free(entry->plugin.path);
    if (entry->plugin.handle)
        dlclose(entry->plugin.handle);
    free(entry);
}

/* dlerror() begins with the path where the linker got as far as that. */
static const char *load_error(const char *path)
{
    const char *message = dlerror();
    size_t length = strlen(path);

    if (strncmp(message, path, length) == 0 && strncmp(message + length, ": ", 2) == 0)
        return message + length + 2;
    return message;
}

static int open_object(const char *file, struct plugin *plugin,
                       const struct drafter_plugin **ret_found, struct drafter_error *err)
{
    plugin_entry entry;
    void *symbol;

    plugin->handle = dlopen(plugin->path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->handle)
        return drafter_error_set(err, ENOEXEC, "%s: found an object that cannot be loaded: %s",
                                 file, load_error(plugin->path));
    symbol = dlsym(plugin->handle, "drafter_plugin_entry");
    if (!symbol)
        return drafter_error_set(err, ENOEXEC,
                                 "%s: found no symbol drafter_plugin_entry, wanted it", file);
    memcpy(&entry, &symbol, sizeof(entry));
    *ret_found = entry();
    return 0;
}

static int load(const char *file, struct loaded *entry, enum drafter_kind kind, const char *name,
                struct drafter_error *err)
{
    const struct drafter_plugin *found = NULL;
    int ret;

    ret = check_file(file, entry->plugin.path, err);
    if (ret < 0)
        return ret;
    ret = open_object(file, &entry->plugin, &found, err);
    if (ret < 0)
        return ret;
    ret = check_header(file, found, err);
    if (ret < 0)
        return ret;
    ret = check_identity(file, found, kind, name, err);
    if (ret < 0)
        return ret;
    return copy_descriptor(file, found, &entry->plugin, err);
}

static struct loaded *find_loaded(const char *path)
{
    for (struct loaded *entry = loader.first; entry; entry = entry->next)
        if (strcmp(entry->plugin.path, path) == 0)
            return entry;
    return NULL;
}

int plugin_load_file(const char *file, enum drafter_kind kind, const char *name,
                     struct plugin **ret_plugin, struct drafter_error *err)
{
    cleanup_free char *path = NULL;
    struct loaded *entry;
    int ret;

    if (*file != '/')
        return drafter_error_set(err, EINVAL, "%s: found a relative path, wanted an absolute one",
                                 file);
    path = realpath(file, NULL);
    if (!path)
        return drafter_error_errno(err, errno, "%s", file);

    lock_scope(&loader.lock);
    entry = find_loaded(path);
    if (entry) {
        ret = check_identity(file, &entry->plugin.descriptor, kind, name, err);
        if (ret < 0)
            return ret;
    } else {
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return drafter_error_errno(err, ENOMEM, "%s", file);
        entry->plugin.path = steal(&path);
        ret = load(file, entry, kind, name, err);
        if (ret < 0) {
            loaded_free(entry);
            return ret;
        }
        entry->next = loader.first;
        loader.first = entry;
    }
    entry->plugin.references++;
    *ret_plugin = &entry->plugin;
    return 0;
}

int plugin_load(enum drafter_kind kind, const char *name, struct plugin **ret_plugin,
                struct drafter_error *err)
{
    cleanup_free char *file = NULL;
    int ret;

    if (*name == '/')
        return plugin_load_file(name, kind, NULL, ret_plugin, err);
    ret = search_file(kind, name, &file, err);
    if (ret < 0)
        return ret;
    return plugin_load_file(file, kind, name, ret_plugin, err);
}

void plugin_unload(struct plugin *plugin)
{
    struct loaded **link;

    if (!plugin)
        return;
    lock_scope(&loader.lock);
    if (--plugin->references > 0)
        return;
    for (link = &loader.first; *link; link = &(*link)->next) {
        if (&(*link)->plugin == plugin) {
            struct loaded *entry = *link;

            *link = entry->next;
            loaded_free(entry);
            return;
        }
    }
}
