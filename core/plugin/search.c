/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugin/search.h"

#include "config/suggest.h"
#include "plugin/kinds.h"
#include "plugin/plugin.h"
#include "util/cleanup.h"

#include <dirent.h>
#include <string.h>

#ifndef PLUGINDIR
#define PLUGINDIR "/usr/local/lib/drafter/plugins"
#endif

#define PREFIX "drafter-"
#define SUFFIX ".so"

/* One directory of the search path; `length` runs to the colon or the end. */
struct search_directory {
    const char *start;
    size_t length;
};

const char *plugin_search_path(void)
{
    const char *path = secure_getenv("DRAFTER_PLUGIN_PATH");

    return path && *path ? path : PLUGINDIR;
}

/* Steps to the next absolute directory of the path; others are passed over, as if they were empty.
 */
static bool next_directory(const char **path, struct search_directory *ret_directory)
{
    while (**path) {
        size_t length = strcspn(*path, ":");

        *ret_directory = (struct search_directory){*path, length};
        *path += length + ((*path)[length] == ':');
        if (length > 0 && *ret_directory->start == '/')
            return true;
    }
    return false;
}

bool search_valid_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return length > 0 && length <= DRAFTER_NAME_MAX && name[length] == '\0';
}

static char *file_in(struct search_directory directory, enum drafter_kind kind, const char *name)
{
    char *file;

    if (asprintf(&file, "%.*s/" PREFIX "%s-%s" SUFFIX, (int)directory.length, directory.start,
                 plugin_kind_name(kind), name) < 0)
        return NULL;
    return file;
}

struct nearest {
    enum drafter_kind kind;
    const char *wanted;
    char best[DRAFTER_NAME_MAX + 1];
    unsigned distance;
};

static int keep_nearest(void *opaque, const char *file, enum drafter_kind kind, const char *name)
{
    struct nearest *nearest = opaque;
    unsigned distance = suggest_distance(nearest->wanted, name);

    (void)file;
    if (kind == nearest->kind && distance < nearest->distance) {
        nearest->distance = distance;
        snprintf(nearest->best, sizeof(nearest->best), "%s", name);
    }
    return 0;
}

static int not_found(enum drafter_kind kind, const char *name, struct drafter_error *err)
{
    struct nearest nearest = {.kind = kind, .wanted = name, .distance = suggest_limit(name) + 1};
    const char *kind_name = plugin_kind_name(kind);

    search_each(keep_nearest, &nearest);
    if (*nearest.best)
        return drafter_error_set(err, ENOENT, "no %s plugin '%s' in %s; did you mean '%s'?",
                                 kind_name, name, plugin_search_path(), nearest.best);
    return drafter_error_set(err, ENOENT, "no %s plugin '%s' (" PREFIX "%s-%s" SUFFIX ") in %s",
                             kind_name, name, kind_name, name, plugin_search_path());
}

int search_file(enum drafter_kind kind, const char *name, char **ret_file,
                struct drafter_error *err)
{
    const char *path = plugin_search_path();
    struct search_directory directory;

    if (!search_valid_name(name))
        return drafter_error_set(err, EINVAL,
                                 "'%s' is no plugin name (letters a-z, digits, dashes) and no "
                                 "absolute path",
                                 name);
    while (next_directory(&path, &directory)) {
        cleanup_free char *file = file_in(directory, kind, name);

        if (!file)
            return drafter_error_errno(err, ENOMEM, "%s", name);
        if (access(file, F_OK) == 0) {
            *ret_file = steal(&file);
            return 0;
        }
    }
    return not_found(kind, name, err);
}

/* Takes drafter-KIND-NAME.so apart; `name` holds NAME_MAX + 1 bytes. */
static bool parse_file_name(const char *base, enum drafter_kind *ret_kind, char *name)
{
    size_t length = strlen(base);
    const struct plugin_kind *kind;

    if (length <= strlen(PREFIX SUFFIX) || strncmp(base, PREFIX, strlen(PREFIX)) != 0 ||
        strcmp(base + length - strlen(SUFFIX), SUFFIX) != 0)
        return false;
    base += strlen(PREFIX);
    length -= strlen(PREFIX SUFFIX);
    for (size_t i = 0; (kind = plugin_kind_at(i)); i++) {
        size_t prefix = strlen(kind->name);

        if (length <= prefix + 1 || strncmp(base, kind->name, prefix) != 0 || base[prefix] != '-')
            continue;
        memcpy(name, base + prefix + 1, length - prefix - 1);
        name[length - prefix - 1] = '\0';
        *ret_kind = kind->kind;
        return search_valid_name(name);
    }
    return false;
}

/* Whether a directory before `here` on the path has the same plugin. */
static bool hidden(struct search_directory here, enum drafter_kind kind, const char *name)
{
    const char *path = plugin_search_path();
    struct search_directory directory;

    while (next_directory(&path, &directory) && directory.start < here.start) {
        cleanup_free char *file = file_in(directory, kind, name);

        if (file && access(file, F_OK) == 0)
            return true;
    }
    return false;
}

static int visit_entry(struct search_directory directory, const char *base,
                       int (*visit)(void *, const char *, enum drafter_kind, const char *),
                       void *opaque)
{
    cleanup_free char *file = NULL;
    char name[256];
    enum drafter_kind kind;

    if (strlen(base) >= sizeof(name) || !parse_file_name(base, &kind, name) ||
        hidden(directory, kind, name))
        return 0;
    file = file_in(directory, kind, name);
    return file ? visit(opaque, file, kind, name) : -ENOMEM;
}

static int visit_directory(struct search_directory directory,
                           int (*visit)(void *, const char *, enum drafter_kind, const char *),
                           void *opaque)
{
    cleanup_free char *path = strndup(directory.start, directory.length);
    struct dirent **entries;
    int count, ret = 0;

    if (!path)
        return -ENOMEM;
    count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        return errno == ENOENT ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        if (ret == 0)
            ret = visit_entry(directory, entries[i]->d_name, visit, opaque);
        free(entries[i]);
    }
    free(entries);
    return ret;
}

int search_each(int (*visit)(void *opaque, const char *file, enum drafter_kind kind,
                             const char *name),
                void *opaque)
{
    const char *path = plugin_search_path();
    struct search_directory directory;
    int ret = 0;

    while (ret == 0 && next_directory(&path, &directory))
        ret = visit_directory(directory, visit, opaque);
    return ret;
}

/* plugin_foreach wraps the caller's visitor: it loads each file for the length of the visit. */
struct foreach {
    int (*visit)(void *opaque, const char *path, const struct plugin *plugin,
                 const struct drafter_error *err);
    void *opaque;
};

static int load_and_visit(void *opaque, const char *file, enum drafter_kind kind, const char *name)
{
    const struct foreach *each = opaque;
    struct drafter_error err = {0};
    struct plugin *plugin = NULL;
    int ret;

    plugin_load_file(file, kind, name, &plugin, &err);
    ret = each->visit(each->opaque, file, plugin, plugin ? NULL : &err);
    plugin_unload(plugin);
    return ret;
}

int plugin_foreach(int (*visit)(void *opaque, const char *path, const struct plugin *plugin,
                                const struct drafter_error *err),
                   void *opaque)
{
    struct foreach each = {visit, opaque};

    return search_each(load_and_visit, &each);
}
