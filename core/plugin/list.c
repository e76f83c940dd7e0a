/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter plugins`: what is installed, and what one of it can do.  A name may belong to several
 * kinds (there is a null plugin of each); then all of them are described.
 */
#include "command.h"

#include "plugin/describe.h"
#include "plugin/kinds.h"
#include "plugin/search.h"
#include "util/cleanup.h"

#include <string.h>

struct listing {
    const char *wanted;     /* describe only plugins of this name; NULL lists all */
    enum drafter_kind kind; /* and of this kind; 0: any */
    json_t *json;           /* the array to fill; NULL prints text */
    unsigned count, failed;
    struct drafter_error error; /* of the last that failed */
};

static json_t *row_json(const char *file, enum drafter_kind kind, const char *name,
                        const struct plugin *plugin, const struct drafter_error *err)
{
    const struct drafter_plugin *descriptor = plugin ? &plugin->descriptor : NULL;

    return json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:s?}", "kind", plugin_kind_name(kind), "name",
                     name, "version", descriptor ? descriptor->version : NULL, "summary",
                     descriptor ? descriptor->summary : NULL, "path", file, "error",
                     plugin ? NULL : err->message);
}

/* The reason of a refusal begins with the file, which has a column of its own. */
static const char *reason_of(const struct drafter_error *err, const char *file)
{
    size_t length = strlen(file);

    if (strncmp(err->message, file, length) == 0 && strncmp(err->message + length, ": ", 2) == 0)
        return err->message + length + 2;
    return err->message;
}

static void print_row(const char *file, enum drafter_kind kind, const char *name,
                      const struct plugin *plugin, const struct drafter_error *err)
{
    const struct drafter_plugin *descriptor = plugin ? &plugin->descriptor : NULL;

    if (descriptor)
        printf("%-10s %-12s %-8s %-64s %s\n", plugin_kind_name(kind), name,
               descriptor->version ? descriptor->version : "-",
               descriptor->summary ? descriptor->summary : "-", file);
    else
        printf("%-10s %-12s %-8s cannot be loaded: %s  %s\n", plugin_kind_name(kind), name, "-",
               reason_of(err, file), file);
}

static void show(struct listing *listing, const char *file, enum drafter_kind kind,
                 const char *name, const struct plugin *plugin, const struct drafter_error *err)
{
    if (!listing->wanted) {
        if (listing->json)
            json_array_append_new(listing->json, row_json(file, kind, name, plugin, err));
        else
            print_row(file, kind, name, plugin, err);
        return;
    }
    if (!plugin) {
        listing->failed++;
        listing->error = *err;
        return;
    }
    if (listing->json) {
        json_array_append_new(listing->json, describe_json(plugin));
    } else {
        fputs(listing->count > 1 ? "\n" : "", stdout);
        describe_text(plugin, stdout);
    }
}

static int visit(void *opaque, const char *file, enum drafter_kind kind, const char *name)
{
    struct listing *listing = opaque;
    struct drafter_error err = {0};
    struct plugin *plugin = NULL;

    if ((listing->wanted && strcmp(listing->wanted, name) != 0) ||
        (listing->kind && listing->kind != kind))
        return 0;
    plugin_load_file(file, kind, name, &plugin, &err);
    listing->count++;
    show(listing, file, kind, name, plugin, &err);
    plugin_unload(plugin);
    return 0;
}

/* One file, whatever it is called. */
static int describe_file(const char *file, struct listing *listing, struct drafter_error *err)
{
    struct plugin *plugin = NULL;
    int ret = plugin_load_file(file, 0, NULL, &plugin, err);

    if (ret < 0)
        return ret;
    listing->count++;
    show(listing, file, plugin->descriptor.kind, plugin->descriptor.name, plugin, NULL);
    plugin_unload(plugin);
    return 0;
}

/* "NAME" or "KIND/NAME". */
static int describe_name(const char *name, struct listing *listing, struct drafter_error *err)
{
    const char *slash = strchr(name, '/');
    cleanup_free char *kind = slash ? strndup(name, (size_t)(slash - name)) : NULL;
    cleanup_free char *missing = NULL;

    if (kind && plugin_kind_parse(kind, &listing->kind) < 0)
        return drafter_error_set(
            err, EINVAL, "'%s' is no plugin kind: transport, storage, network, device, vmm", kind);
    listing->wanted = slash ? slash + 1 : name;
    search_each(visit, listing);
    if (listing->count == 0 && listing->kind) /* says what is near */
        return search_file(listing->kind, listing->wanted, &missing, err);
    if (listing->count == 0)
        return drafter_error_set(err, ENOENT, "no plugin '%s' in %s", name, plugin_search_path());
    if (listing->failed) {
        if (err)
            *err = listing->error;
        return -listing->error.code;
    }
    return 0;
}

static int list_all(struct listing *listing)
{
    if (!listing->json)
        printf("%-10s %-12s %-8s %-64s %s\n", "KIND", "NAME", "VERSION", "SUMMARY", "PATH");
    return search_each(visit, listing);
}

int command_plugins(const char *name, bool json, struct drafter_error *err)
{
    struct listing listing = {.json = json ? json_array() : NULL};
    int ret;

    if (!name) {
        ret = list_all(&listing);
        if (ret < 0)
            drafter_error_errno(err, -ret, "%s", plugin_search_path());
    } else if (*name == '/') {
        listing.wanted = name;
        ret = describe_file(name, &listing, err);
    } else {
        ret = describe_name(name, &listing, err);
    }
    if (listing.json) {
        json_dumpf(listing.json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(listing.json);
    }
    return ret;
}
