/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that is read straight from a package, piece by piece, as drafter-package(5) describes it; or from a plain
 * tar archive, where its bytes lie as they are.  Never written: an overlay takes what changes.  The package is a
 * file, or all of the storage below, which others may read, too.
 */
#include "cache.h"
#include "pack/tar.h"
#include "util/cleanup.h"

#include <drafter/storage.h>

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

struct package_config {
    const char *path, *device;
    uint64_t cache_size;
    int signature;
};

enum { SIGNATURE_IGNORE, SIGNATURE_CHECK, SIGNATURE_REQUIRE };

static const char *const signature_choices[] = {"ignore", "check", "require", NULL};

struct package {
    const struct package_config *config;
    const char *name; /* of the package, for people */
    const struct drafter_storage_ops *next;
    void *next_instance; /* which it is in; NULL: a file */
    uint64_t size;
    /* From here on set by open. */
    bool is_open;
    struct pack_reader reader;
    struct pack_table table;
    struct cache *cache;      /* NULL: a plain tar archive */
    struct pack_source plain; /* that one */
    uint64_t offset;          /* of the device in it */
};

static int package_create(const struct drafter_context *context, const void *config,
                          void **ret_instance, struct drafter_error *err)
{
    const struct package_config *wanted = config;
    struct package *package;

    if (!wanted->path == !context->next || !wanted->device)
        return drafter_error_set(err, EINVAL, "storage %s: it needs a device, and either a path or next",
                                 context->id);
    package = calloc(1, sizeof(*package));
    if (!package || sodium_init() < 0) {
        free(package);
        return drafter_error_set(err, ENOMEM, "package: no memory");
    }
    package->config = config;
    package->name = context->next ? context->id : wanted->path;
    package->plain.fd = package->reader.source.fd = -1;
    *ret_instance = package;
    if (!context->next || (package->next = drafter_next_storage(context->next, &package->next_instance)))
        return 0;
    free(package);
    return drafter_error_set(err, EINVAL, "storage %s: what is below is not a storage", context->id);
}

static void package_close(struct package *package)
{
    cache_free(package->cache);
    package->cache = NULL;
    pack_table_release(&package->table);
    pack_reader_close(&package->reader);
    pack_source_close(&package->plain);
    package->is_open = false;
}

static void package_destroy(void *instance)
{
    if (instance)
        package_close(instance);
    free(instance);
}

static int package_admit(const struct package *package, struct drafter_error *err)
{
    const char *signer = package->reader.signer, *path = package->name;
    int rc;

    if (package->config->signature == SIGNATURE_IGNORE)
        return 0;
    if (signer[0] == '\0')
        return package->config->signature == SIGNATURE_CHECK
                   ? 0
                   : drafter_error_set(err, EACCES, "%s is not signed", path);
    rc = drafter_trust_package(signer, err);
    return rc ? drafter_error_wrap(err, "%s: signed by %s", path, signer) : 0;
}

static int package_find(struct package *package, struct drafter_error *err)
{
    const struct package_config *config = package->config;
    const struct pack_device *device = pack_manifest_find(&package->reader.manifest, config->device);
    int rc = package_admit(package, err);

    if (rc)
        return rc;
    if (!device)
        return drafter_error_set(err, ENOENT, "%s has no device %s", package->name, config->device);
    package->size = device->size;
    rc = pack_table_load(&package->reader, device, &package->table, err);
    if (rc)
        return rc;
    rc = cache_new(&package->reader, &package->table, config->cache_size, &package->cache);
    return rc ? drafter_error_set(err, -rc, "%s: no memory for its cache", package->name) : 0;
}

static int package_find_plain(struct package *package, struct drafter_error *err)
{
    const struct package_config *config = package->config;
    int rc = package_admit(package, err);

    if (rc)
        return rc;
    rc = pack_tar_find(&package->plain, config->device, &package->offset, &package->size);
    if (rc == -ENOENT)
        return drafter_error_set(err, ENOENT, "%s has no device %s", package->name, config->device);
    if (rc)
        return drafter_error_set(err, EINVAL,
                                 "%s cannot be read at random; take it apart with drafter packager "
                                 "--extract, or make it anew with drafter packager", package->name);
    return 0;
}

static int package_source(struct package *package, struct pack_source *ret_source,
                          struct drafter_error *err)
{
    int rc;

    if (!package->next)
        return pack_source_open(package->config->path, ret_source, err);
    rc = package->next->open(package->next_instance, 0, DRAFTER_STORAGE_READONLY, err);
    if (!rc)
        *ret_source = (struct pack_source){.size = package->next->size(package->next_instance), .fd = -1,
                                           .pread = package->next->pread,
                                           .opaque = package->next_instance};
    return rc;
}

static int package_load(struct package *package, struct drafter_error *err)
{
    struct drafter_error error = {0};
    struct pack_source source;
    int rc = package_source(package, &source, err);

    if (rc)
        return rc;
    rc = pack_reader_open_source(package->name, &source, &package->reader, &error);
    if (rc == -ENOTSUP) {
        package->plain = source;
        return package_find_plain(package, err);
    }
    if (rc) {
        pack_source_close(&source);
        if (err)
            *err = error;
        return rc;
    }
    return package_find(package, err);
}

static int package_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct package *package = instance;
    const char *path = package->name;
    int rc;

    if (package->is_open)
        return drafter_error_set(err, EALREADY, "%s: is open", path);
    if (!(flags & DRAFTER_STORAGE_READONLY))
        return drafter_error_set(err, EROFS, "%s: a package is only read; put an overlay over device %s",
                                 path, package->config->device);
    rc = package_load(package, err);
    if (!rc && size && size != package->size)
        rc = drafter_error_set(err, EINVAL, "%s: device %s has %" PRIu64 " bytes instead of %" PRIu64,
                               path, package->config->device, package->size, size);
    if (rc)
        package_close(package);
    package->is_open = rc == 0;
    return rc;
}

static uint64_t package_size(void *instance)
{
    struct package *package = instance;

    return package->size;
}

static bool package_outside(const struct package *package, uint64_t length, uint64_t offset)
{
    return offset > package->size || length > package->size - offset;
}

static int package_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct package *package = instance;
    uint8_t *at = buffer;
    uint32_t index;
    int rc = 0;

    if (package_outside(package, length, offset))
        return -EINVAL;
    if (!package->cache)
        return pack_source_read(&package->plain, buffer, length, package->offset + offset);
    if (!length)
        return 0;
    for (index = pack_table_find(&package->table, offset); !rc && length; index++) {
        const struct pack_frame frame = pack_table_frame(&package->table, index);
        uint64_t skip = offset - package->table.plain[index];
        size_t part = frame.size - skip < length ? (size_t)(frame.size - skip) : length;

        if (pack_frame_is_zero(&frame))
            memset(at, 0, part);
        else
            rc = cache_read(package->cache, index, at, part, (size_t)skip);
        at += part;
        offset += part;
        length -= part;
    }
    return rc;
}

static int package_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    (void)instance;
    (void)buffer;
    (void)length;
    (void)offset;
    return -EROFS;
}

static int package_refuse(void *instance, uint64_t length, uint64_t offset)
{
    (void)instance;
    (void)length;
    (void)offset;
    return -EROFS;
}

static int package_flush(void *instance)
{
    (void)instance;
    return 0;
}

static int package_extent(void *instance, uint64_t offset, uint64_t length,
                          enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    struct package *package = instance;
    struct pack_frame frame;
    uint64_t left;
    uint32_t index;

    if (!length || package_outside(package, length, offset))
        return -EINVAL;
    *ret_kind = DRAFTER_EXTENT_DATA;
    *ret_length = length;
    if (!package->cache)
        return 0;
    index = pack_table_find(&package->table, offset);
    frame = pack_table_frame(&package->table, index);
    left = package->table.plain[index + 1] - offset;
    *ret_kind = pack_frame_is_zero(&frame) ? DRAFTER_EXTENT_ZERO : DRAFTER_EXTENT_DATA;
    *ret_length = left < length ? left : length;
    return 0;
}

static const struct drafter_option package_options[] = {
    {.key = "path", .type = DRAFTER_OPTION_PATH,
     .offset = offsetof(struct package_config, path),
     .help = "the package, a file; next names a storage that holds it instead"},
    {.key = "device", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct package_config, device), .help = "which of its devices"},
    {.key = "cache-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct package_config, cache_size), .default_value = "16M",
     .maximum = UINT64_C(1) << 40, .help = "memory for what was decompressed"},
    {.key = "signature", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct package_config, signature), .default_value = "check",
     .choices = signature_choices,
     .help = "whether the package must be signed by a key that may give us packages"},
    DRAFTER_OPTION_END,
};

static const struct drafter_storage_ops package_ops = {
    .open = package_open,
    .size = package_size,
    .pread = package_pread,
    .pwrite = package_pwrite,
    .flush = package_flush,
    .zero = package_refuse,
    .trim = package_refuse,
    .extent = package_extent,
};

static const struct drafter_plugin package_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "package",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "a device in a package, read only",
    .options = package_options,
    .config_size = sizeof(struct package_config),
    .create = package_create,
    .destroy = package_destroy,
    .ops = &package_ops,
};
DRAFTER_PLUGIN_ENTRY(package_plugin)
