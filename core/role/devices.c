/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/devices.h"

#include "config/table.h"
#include "plugin/plugin.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <string.h>
#include <sys/stat.h>

#define OVERLAYS_MAX 16

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct device_options, field_), \
     .default_value = default_, .help = help_}

/* Keys of the original that mean nothing here. */
#define IGNORED(key_, why_)                                                                        \
    {.key = key_, .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_IGNORED, .help = why_}

const struct drafter_option device_option_table[] = {
    OPTION("base", PATH, base, NULL, "file that holds the device, or that it is received into"),
    OPTION("overlay", STRING, overlay, NULL,
           "file that takes what is written instead of the base; several, separated by spaces, are "
           "stacked"),
    OPTION("state", STRING, state, NULL, "file that says what the overlay holds; one for each"),
    OPTION("storage", STRING, storage, NULL,
           "id of a [storage:ID] section: how the base is read, or what is used instead of one"),
    OPTION("input", PATH, input, NULL, "snapshotter: file to start from"),
    OPTION("output", PATH, output, NULL, "snapshotter: file to write"),
    OPTION("save-output", PATH, save_output, NULL,
           "file that gets the device when its VM is saved; its base and overlays stay as they are"),
    OPTION("path", PATH, path, NULL, "packager: the file; runner: another word for base"),
    {.key = "block-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct device_options, block_size), .default_value = "64k",
     .minimum = 4096, .maximum = 64 << 20, .help = "bytes that travel together"},
    OPTION("expiry", DURATION, expiry, "1s", "accepted for the original's sake; heat needs no window"),
    OPTION("max-dirty-blocks", UINT, max_dirty_blocks, "200",
           "a pass that leaves fewer dirty blocks is a quiet one"),
    OPTION("min-cycles", UINT, min_cycles, "5", "quiet passes to be exceeded before the suspend"),
    OPTION("max-cycles", UINT, max_cycles, "20", "passes after which the VM is suspended anyway"),
    OPTION("cycle-throttle", DURATION, cycle_throttle, "500ms", "pause between passes"),
    OPTION("make-migratable", BOOL, make_migratable, "yes", "whether peers may take the VM over"),
    OPTION("shared", BOOL, shared, "no", "used by several VMs: opened read-only and not migrated"),
    OPTION("shared-base", BOOL, shared_base, "no",
           "the base is likely the same at the peer: compare hashes, send what differs"),
    OPTION("connect", STRING, connect, NULL,
           "address to take this device over from, where devices have addresses of their own"),
    OPTION("listen", STRING, listen, NULL,
           "address at which this device can be taken, where devices have addresses of their own"),
    OPTION("resume-threshold", SIZE, resume_threshold, NULL,
           "the guest resumes only when no more of this device is missing"),
    OPTION("any-order", BOOL, any_order, "no", "send it from front to back, not what is coldest first"),
    OPTION("binlog", PATH, binlog, NULL, "file that records what the VM does with the device; made anew at each start"),
    {.key = "binlog-limit", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct device_options, binlog_limit), .default_value = "1G", .minimum = 4096,
     .help = "size at which the recording ends"},
    OPTION("binlog-data", BOOL, binlog_data, "yes", "record what is written, not its hashes alone"),
    OPTION("s3-sync", BOOL, s3_sync, "no", "refused when on: name a storage plugin for that"),
    IGNORED("s3-access-key", "name a storage plugin for that"),
    {.key = "s3-secret-key", .type = DRAFTER_OPTION_STRING,
     .flags = DRAFTER_OPTION_IGNORED | DRAFTER_OPTION_SECRET, .help = "name a storage plugin for that"},
    IGNORED("s3-endpoint", "name a storage plugin for that"),
    IGNORED("s3-secure", "name a storage plugin for that"),
    IGNORED("s3-bucket", "name a storage plugin for that"),
    IGNORED("s3-concurrency", "name a storage plugin for that"),
    IGNORED("s3-prefix", "name a storage plugin for that"),
    IGNORED("s3-only-dirty", "name a storage plugin for that"),
    IGNORED("s3-block-shift", "name a storage plugin for that"),
    IGNORED("s3-max-age", "name a storage plugin for that"),
    IGNORED("s3-min-changed", "name a storage plugin for that"),
    IGNORED("s3-limit", "name a storage plugin for that"),
    IGNORED("s3-check-period", "name a storage plugin for that"),
    IGNORED("use-sparse-file", "overlays are sparse files anyway"),
    IGNORED("use-write-cache", "the page cache of the exposed device is one"),
    IGNORED("write-cache-min", "the page cache of the exposed device is one"),
    IGNORED("write-cache-max", "the page cache of the exposed device is one"),
    IGNORED("write-cache-block-size", "the page cache of the exposed device is one"),
    IGNORED("skip-silo", "what the VM uses is served from here, so that it can move"),
    DRAFTER_OPTION_END,
};

struct converge_limits devices_limits(const struct node_device *device)
{
    static const char *const keys[] = {"max-dirty-blocks", "min-cycles", "max-cycles",
                                       "cycle-throttle"};
    struct converge_limits limits = {
        .max_dirty_blocks = device->options.max_dirty_blocks,
        .min_cycles = device->options.min_cycles,
        .max_cycles = device->options.max_cycles,
        .cycle_throttle_ns = device->options.cycle_throttle,
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        limits.set |= config_value(device->section, keys[i]) != NULL;
    return limits;
}

int devices_read(struct node *node, struct devices *devices, struct drafter_error *err)
{
    const struct config_section *section = NULL;

    memset(devices, 0, sizeof(*devices));
    while ((section = config_next(node->config, "device", section))) {
        struct node_device *device = &devices->list[devices->count];
        int rc;

        if (devices->count == DEVICES_MAX)
            return drafter_error_set(err, E2BIG, "%s: more than %d devices",
                                     config_where(section, NULL), DEVICES_MAX);
        if (!*section->id || strchr(section->id, '/') || *section->id == '.' ||
            strlen(section->id) > DRAFTER_NAME_MAX)
            return drafter_error_set(err, EINVAL, "%s: \"%s\" is no name for a device",
                                     config_where(section, NULL), section->id);
        device->name = section->id;
        device->section = section;
        rc = config_apply(section, device_option_table, NULL, &device->options,
                          sizeof(device->options), err);
        if (!rc && device->options.s3_sync)
            rc = drafter_error_set(err, ENOTSUP,
                                   "%s: devices are not uploaded while they run; leave s3-sync out, or give "
                                   "the device storage = ID of a storage plugin",
                                   config_where(section, "s3-sync"));
        if (rc)
            return rc;
        if (!device->options.base) /* what a registry hands out was called its input */
            device->options.base = device->options.input ? device->options.input : device->options.path;
        devices->blocks[devices->count++] = &device->block;
    }
    return 0;
}

struct node_device *devices_find(struct devices *devices, const char *name)
{
    for (unsigned i = 0; i < devices->count; i++)
        if (!strcmp(devices->list[i].name, name))
            return &devices->list[i];
    return NULL;
}

/* Splits a space-separated list in place. */
static unsigned split(char *list, char **words)
{
    unsigned count = 0;
    char *rest = list, *word;

    while ((word = strsep(&rest, " \t")))
        if (*word && count < OVERLAYS_MAX)
            words[count++] = word;
    return count;
}

#define SETTINGS_MAX 3 /* that a base gets from its device */

/* Adds a setting if the plugin knows it. */
static void add_setting(const struct drafter_option *table, const char *key, const char *value,
                        const char ***at)
{
    if (!table_find(table, key))
        return;
    *(*at)++ = key;
    *(*at)++ = value;
}

static const struct config_section *storage_section(const struct node *node,
                                                    const struct node_device *device)
{
    const char *id = device->options.storage;

    return id ? config_section(node->config, "storage", id) : NULL;
}

static const char *storage_plugin(const struct node *node, const struct node_device *device)
{
    const struct config_section *section = storage_section(node, device);
    const char *name = section ? config_value(section, "plugin") : NULL;

    return name ? name : device->options.storage ? device->options.storage : DEFAULT_STORAGE;
}

/* What the plugin of a base is told of its device; one that holds several asks which it is. */
static int base_settings(struct node *node, const struct node_device *device, bool readonly,
                         const char *settings[2 * SETTINGS_MAX + 1], struct drafter_error *err)
{
    const char *name = storage_plugin(node, device), *base = device->options.base;
    const struct drafter_option *table;
    struct plugin *plugin;
    int rc = plugin_load(DRAFTER_KIND_STORAGE, name, &plugin, err);

    if (rc)
        return rc;
    table = plugin->descriptor.options;
    if (base)
        add_setting(table, "path", base, &settings);
    add_setting(table, "device", device->name, &settings);
    add_setting(table, "readonly", readonly ? "yes" : "no", &settings);
    if (base && !table_find(table, "path"))
        rc = drafter_error_set(err, EINVAL, "%s: storage %s is not in a file: leave base out",
                               config_where(device->section, "base"), name);
    plugin_unload(plugin);
    return rc;
}

/* Does the storage hold several devices, and its section leaves open which this one is? */
static bool holds_several(const struct node *node, const struct node_device *device)
{
    const struct config_section *section = storage_section(node, device);
    struct drafter_error ignored = {0};
    struct plugin *plugin;
    bool several;

    if ((section && config_value(section, "device")) ||
        plugin_load(DRAFTER_KIND_STORAGE, storage_plugin(node, device), &plugin, &ignored))
        return false;
    several = table_find(plugin->descriptor.options, "device");
    plugin_unload(plugin);
    return several;
}

int devices_make_base(struct node *node, const struct node_device *device, bool readonly,
                      struct instance **ret_storage, struct drafter_error *err)
{
    const char *settings[2 * SETTINGS_MAX + 1] = {NULL}, *storage = device->options.storage;
    const struct config_section *section = storage_section(node, device);
    const char *below = section ? config_value(section, "next") : NULL;
    struct instance *next = NULL;
    cleanup_free char *id = NULL;
    int rc = base_settings(node, device, readonly, settings, err);

    if (!rc && below)
        rc = node_instance(node, DRAFTER_KIND_STORAGE, below, &next, err);
    if (rc)
        return rc;
    if (asprintf(&id, "%s-base", device->name) < 0) {
        id = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return node_make(node, DRAFTER_KIND_STORAGE, storage ? storage : DEFAULT_STORAGE, section, settings,
                     id, next, ret_storage, err);
}

static int stack_overlay(struct node *node, const struct node_device *device, const char *overlay,
                         const char *state, unsigned flags, struct instance **storage,
                         struct drafter_error *err)
{
    const char *const overrides[] = {"overlay", overlay, "state", state, NULL};
    struct instance *below = *storage;
    cleanup_free char *id = NULL;
    int rc;

    if (asprintf(&id, "%s-%s", device->name, overlay) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = node_make(node, DRAFTER_KIND_STORAGE, DEFAULT_OVERLAY, NULL, overrides, id, below, storage,
                   err);
    return rc ? rc : storage_open(*storage, storage_size(below), flags, err);
}

/* Puts the overlays on the open base; only the topmost one is written. */
static int stack_overlays(struct node *node, struct node_device *device, bool readonly,
                          struct instance **storage, struct drafter_error *err)
{
    cleanup_free char *overlays = strdup(device->options.overlay ? device->options.overlay : "");
    cleanup_free char *states = strdup(device->options.state ? device->options.state : "");
    char *overlay[OVERLAYS_MAX], *state[OVERLAYS_MAX];
    unsigned count;
    int rc = 0;

    if (!overlays || !states)
        return drafter_error_set(err, ENOMEM, "out of memory");
    count = split(overlays, overlay);
    if (split(states, state) != count)
        return drafter_error_set(err, EINVAL, "%s: overlay and state must name equally many files",
                                 config_where(device->section, "overlay"));
    for (unsigned i = 0; !rc && i < count; i++) {
        bool top = i + 1 == count && !readonly;

        rc = stack_overlay(node, device, overlay[i], state[i],
                           top ? DRAFTER_STORAGE_CREATE : DRAFTER_STORAGE_READONLY, storage, err);
    }
    return rc;
}

/* ---- what is thrown away unless it is saved elsewhere */

static int private_paths(const struct node_device *device, char **ret_overlay, char **ret_state)
{
    *ret_overlay = *ret_state = NULL;
    if (asprintf(ret_overlay, "%s.private", device->options.save_output) < 0)
        *ret_overlay = NULL;
    if (asprintf(ret_state, "%s.private-map", device->options.save_output) < 0)
        *ret_state = NULL;
    return *ret_overlay && *ret_state ? 0 : -ENOMEM;
}

static void drop_private(const struct node_device *device)
{
    cleanup_free char *overlay = NULL, *state = NULL;

    if (private_paths(device, &overlay, &state))
        return;
    unlink(overlay);
    unlink(state);
}

void devices_drop_private(struct devices *devices)
{
    for (unsigned i = 0; i < devices->count; i++)
        if (devices->list[i].options.save_output)
            drop_private(&devices->list[i]);
}

static int stack_private(struct node *node, const struct node_device *device,
                         struct instance **storage, struct drafter_error *err)
{
    cleanup_free char *overlay = NULL, *state = NULL;
    int rc = private_paths(device, &overlay, &state);

    if (rc)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = io_make_parent(overlay, 0777, err);
    if (rc)
        return rc;
    if (!node->left)
        drop_private(device);
    return stack_overlay(node, device, overlay, state, DRAFTER_STORAGE_CREATE, storage, err);
}

static bool has_overlay(const struct node_device *device)
{
    return device->options.overlay && *device->options.overlay;
}

static int check_base(const struct node_device *device, struct drafter_error *err)
{
    if (device->options.base || device->options.storage)
        return 0;
    return drafter_error_set(err, EINVAL, "%s: device %s needs a base",
                             config_where(device->section, NULL), device->name);
}

/*
 * [storage:ID] is all of the device, with what is below it; with a base it is only how that is read, and with an
 * overlay it is the base.
 */
static bool is_stack(const struct node *node, const struct node_device *device)
{
    return device->options.storage && !device->options.base && !has_overlay(device) &&
           !holds_several(node, device);
}

static int init_block(struct node_device *device, struct instance *storage, bool used,
                      struct drafter_error *err)
{
    const struct device_options *options = &device->options;
    int rc = block_device_init(&device->block, device->name, storage, (uint32_t)options->block_size, err);

    device->opened = rc == 0;
    if (rc || !used || !options->binlog)
        return rc;
    return binlog_create(options->binlog, device->name, device->block.size, options->binlog_limit,
                         options->binlog_data, &device->block.binlog, err);
}

int devices_open_one(struct node *node, struct node_device *device, bool readonly,
                     struct drafter_error *err)
{
    struct instance *storage;
    bool on_top; /* a layer of its own takes what is written */
    bool used;   /* by a VMM that writes */
    int rc;

    readonly |= device->options.shared;
    used = !readonly;
    on_top = !readonly && device->options.save_output;
    readonly |= on_top;
    if (is_stack(node, device)) {
        rc = node_instance(node, DRAFTER_KIND_STORAGE, device->options.storage, &storage, err);
        if (!rc)
            rc = storage_open(storage, 0,
                              readonly        ? DRAFTER_STORAGE_READONLY
                              : storage->next ? DRAFTER_STORAGE_CREATE /* a layer over what is there */
                                              : 0,
                              err);
        if (!rc && on_top)
            rc = stack_private(node, device, &storage, err);
        return rc ? rc : init_block(device, storage, used, err);
    }
    rc = check_base(device, err);
    if (!rc)
        rc = devices_make_base(node, device, readonly || has_overlay(device), &storage, err);
    if (!rc)
        rc = storage_open(storage, 0, readonly || has_overlay(device) ? DRAFTER_STORAGE_READONLY : 0,
                          err);
    if (!rc)
        rc = stack_overlays(node, device, readonly, &storage, err);
    if (!rc && on_top)
        rc = stack_private(node, device, &storage, err);
    return rc ? rc : init_block(device, storage, used, err);
}

int devices_open_local(struct node *node, struct devices *devices, bool readonly,
                       struct drafter_error *err)
{
    for (unsigned i = 0; i < devices->count; i++) {
        int rc = devices_open_one(node, &devices->list[i], readonly, err);

        if (rc)
            return drafter_error_wrap(err, "device %s", devices->list[i].name);
    }
    return 0;
}

/* Is there something at the path that a careless overwrite would destroy? */
static bool has_content(const char *path)
{
    struct stat status;

    return !stat(path, &status) && (status.st_size > 0 || !S_ISREG(status.st_mode));
}

static int refuse_overwrite(const char *path, struct drafter_error *err)
{
    return drafter_error_set(err, EEXIST,
                             "%s: it exists and is not known to be a VM's that left; move it away, "
                             "or set overwrite = yes in [peer]",
                             path);
}

/* A base file that receives the device itself. */
static int open_plain(struct node *node, struct node_device *device, uint64_t size, bool overwrite,
                      struct instance **ret_storage, struct drafter_error *err)
{
    const char *path = device->options.base;
    struct stat status;
    int rc;

    if (device->options.storage)
        return drafter_error_set(err, EINVAL,
                                 "%s: a base with a storage of its own stays as it is: give the device "
                                 "an overlay and a state to receive into",
                                 config_where(device->section, "storage"));
    device->created = stat(path, &status) != 0;
    device->filled = has_content(path);
    if (device->filled && !overwrite)
        return refuse_overwrite(path, err);
    device->arriving = true;
    /* A file of another size cannot be the same device; start it anew. */
    if (device->filled && S_ISREG(status.st_mode) && (uint64_t)status.st_size != size) {
        device->filled = false;
        if (truncate(path, 0))
            return drafter_error_errno(err, errno, "%s: cannot empty it", path);
    }
    rc = devices_make_base(node, device, false, ret_storage, err);
    return rc ? rc : storage_open(*ret_storage, size, DRAFTER_STORAGE_CREATE, err);
}

static int check_overlays(const struct node_device *device, bool overwrite, struct drafter_error *err)
{
    cleanup_free char *overlays = strdup(device->options.overlay);
    char *overlay[OVERLAYS_MAX];
    unsigned count = overlays ? split(overlays, overlay) : 0;

    return count && !overwrite && has_content(overlay[count - 1])
               ? refuse_overwrite(overlay[count - 1], err)
               : 0;
}

/* A base that stays as it is, with an overlay for what differs. */
static int open_overlaid(struct node *node, struct node_device *device, uint64_t size,
                         bool overwrite, struct instance **ret_storage, struct drafter_error *err)
{
    struct stat status;
    int rc = check_overlays(device, overwrite, err);

    device->created = device->options.base && stat(device->options.base, &status) != 0;
    device->filled = !device->created;
    device->arriving = rc == 0;
    if (!rc)
        rc = devices_make_base(node, device, device->filled, ret_storage, err);
    if (!rc)
        rc = storage_open(*ret_storage, size,
                          device->filled ? DRAFTER_STORAGE_READONLY : DRAFTER_STORAGE_CREATE, err);
    return rc ? rc : stack_overlays(node, device, false, ret_storage, err);
}

int devices_open_arriving(struct node *node, struct node_device *device, uint64_t size,
                          bool overwrite, struct drafter_error *err)
{
    struct instance *storage;
    int rc;

    if (is_stack(node, device)) {
        device->filled = true; /* nothing is known of what it holds */
        rc = node_instance(node, DRAFTER_KIND_STORAGE, device->options.storage, &storage, err);
        if (!rc)
            rc = storage_open(storage, size, DRAFTER_STORAGE_CREATE | DRAFTER_STORAGE_ARRIVING |
                              (device->goes_on ? DRAFTER_STORAGE_GOES_ON : 0), err);
    } else {
        rc = check_base(device, err);
        if (!rc)
            rc = has_overlay(device) ? open_overlaid(node, device, size, overwrite, &storage, err)
                                     : open_plain(node, device, size, overwrite, &storage, err);
    }
    if (!rc)
        rc = init_block(device, storage, true, err);
    if (!rc)
        device->block.fresh = !device->filled;
    return rc;
}

void devices_settled(struct devices *devices)
{
    for (unsigned i = 0; i < devices->count; i++)
        if (devices->list[i].opened)
            storage_settled(devices->list[i].block.storage);
}

static void discard_words(const char *list)
{
    cleanup_free char *copy = strdup(list ? list : "");
    char *words[OVERLAYS_MAX];
    unsigned count = copy ? split(copy, words) : 0;

    if (count) /* the topmost one took what arrived */
        unlink(words[count - 1]);
}

void devices_discard(struct devices *devices)
{
    for (unsigned i = 0; i < devices->count; i++) {
        struct node_device *device = &devices->list[i];

        if (!device->arriving)
            continue;
        if (device->created)
            unlink(device->options.base);
        discard_words(device->options.overlay);
        discard_words(device->options.state);
    }
}

void devices_release(struct devices *devices)
{
    for (unsigned i = 0; i < devices->count; i++)
        if (devices->list[i].opened)
            block_device_release(&devices->list[i].block);
    memset(devices, 0, sizeof(*devices));
}
