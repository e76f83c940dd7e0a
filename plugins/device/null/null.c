/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices without a kernel's help: for tests, and for roles that have no VM.
 *
 * With `cache` an exposed device is a plain file that a VMM can open and map, and its mapping here
 * plays the page cache.  Beside it lies `clean`, what the cache held when it last agreed with the
 * backend: a page is dirty when the two differ.  Nobody tells us of a page fault, so the file reads
 * as zeros where nothing was loaded; populate(), read() and hint(COMPLETE) load.
 */
#include <drafter/device.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NULL_PAGE DRAFTER_PAGE_SIZE
#define NULL_ALL UINT64_MAX

struct null_config {
    bool cache;
};

struct null_device {
    const struct null_config *config;
    char *directory;
};

struct null_exposure {
    struct drafter_device_backend backend;
    uint64_t size, pages, mapped_size;
    bool readonly;
    char *path;    /* NULL without a cache */
    char *visible; /* the file; written by the VMM at any time */

    pthread_mutex_t lock; /* protects what follows; not held in a backend call */
    char *clean;
    unsigned char *loaded; /* per page */
};

static const struct drafter_option null_options[] = {
    {.key = "cache",
     .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct null_config, cache),
     .default_value = "yes",
     .help =
         "expose plain files that stand for a write-back cache; without it paths are only names"},
    DRAFTER_OPTION_END,
};

static int null_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct null_device *device = calloc(1, sizeof(*device));

    (void)context;
    if (!device)
        return drafter_error_set(err, ENOMEM, "null: no memory");
    device->config = config;
    *ret_instance = device;
    return 0;
}

static void null_stop(void *instance)
{
    struct null_device *device = instance;

    free(device->directory);
    device->directory = NULL;
}

static void null_destroy(void *instance)
{
    if (!instance)
        return;
    null_stop(instance);
    free(instance);
}

static int null_probe(const void *config, struct drafter_probe *ret_probe)
{
    (void)config;
    ret_probe->usable = true;
    return 0;
}

static int null_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct null_device *device = instance;

    if (device->directory)
        return drafter_error_set(err, EALREADY, "null: already serves %s", device->directory);
    device->directory = realpath(directory, NULL);
    return device->directory ? 0 : drafter_error_errno(err, errno, "%s", directory);
}

static size_t null_page_length(const struct null_exposure *exposure, uint64_t page)
{
    uint64_t rest = exposure->size - page * NULL_PAGE;

    return rest < NULL_PAGE ? (size_t)rest : NULL_PAGE;
}

/* Brings one page from the backend into the cache; `again` even if it is there and clean. */
static int null_load_page(struct null_exposure *exposure, uint64_t page, bool again)
{
    char *visible = exposure->visible + page * NULL_PAGE,
         *clean = exposure->clean + page * NULL_PAGE;
    char buffer[NULL_PAGE] = {0};
    int result;

    pthread_mutex_lock(&exposure->lock);
    result = exposure->loaded[page] && !again;
    pthread_mutex_unlock(&exposure->lock);
    if (result)
        return 0;
    result = exposure->backend.read(exposure->backend.opaque, buffer,
                                    null_page_length(exposure, page), page * NULL_PAGE);
    if (result < 0)
        return result;
    pthread_mutex_lock(&exposure->lock);
    if ((!exposure->loaded[page] || again) && memcmp(visible, clean, NULL_PAGE) == 0) {
        memcpy(visible, buffer, NULL_PAGE);
        memcpy(clean, buffer, NULL_PAGE);
    }
    exposure->loaded[page] = 1;
    pthread_mutex_unlock(&exposure->lock);
    return 0;
}

/* The pages that a range touches, cut at the end of the device. */
static uint64_t null_end_page(const struct null_exposure *exposure, uint64_t offset,
                              uint64_t length)
{
    if (offset >= exposure->size || length > exposure->size - offset)
        return exposure->pages;
    return (offset + length + NULL_PAGE - 1) / NULL_PAGE;
}

static int null_populate(void *instance, uint64_t offset, uint64_t length)
{
    struct null_exposure *exposure = instance;
    uint64_t end = null_end_page(exposure, offset, length);
    int result = 0;

    for (uint64_t page = offset / NULL_PAGE; exposure->path && page < end && result == 0; page++)
        result = null_load_page(exposure, page, false);
    return result;
}

static void null_hint(void *instance, enum drafter_device_hint hint)
{
    if (hint == DRAFTER_DEVICE_COMPLETE)
        null_populate(instance, 0, NULL_ALL);
}

static int null_invalidate(void *instance, uint64_t offset, uint64_t length)
{
    struct null_exposure *exposure = instance;
    uint64_t end = null_end_page(exposure, offset, length ? length : NULL_ALL);
    bool loaded;
    int result = 0;

    for (uint64_t page = offset / NULL_PAGE; exposure->path && page < end && result == 0; page++) {
        pthread_mutex_lock(&exposure->lock);
        loaded = exposure->loaded[page];
        pthread_mutex_unlock(&exposure->lock);
        if (loaded)
            result = null_load_page(exposure, page, true);
    }
    return result;
}

static int null_dirty(void *instance, uint64_t *bitmap, uint64_t pages, struct drafter_error *err)
{
    struct null_exposure *exposure = instance;

    (void)err;
    if (!exposure->path || exposure->readonly)
        return 0;
    pthread_mutex_lock(&exposure->lock);
    for (uint64_t page = 0; page < pages && page < exposure->pages; page++) {
        if (memcmp(exposure->visible + page * NULL_PAGE, exposure->clean + page * NULL_PAGE,
                   NULL_PAGE) != 0)
            bitmap[page / 64] |= UINT64_C(1) << (page % 64);
    }
    pthread_mutex_unlock(&exposure->lock);
    return 0;
}

/* Writes a page back when it is dirty; what the VMM writes meanwhile makes it dirty again. */
static int null_sync_page(struct null_exposure *exposure, uint64_t page)
{
    char *visible = exposure->visible + page * NULL_PAGE,
         *clean = exposure->clean + page * NULL_PAGE;
    char buffer[NULL_PAGE];
    bool dirty;
    int result;

    pthread_mutex_lock(&exposure->lock);
    memcpy(buffer, visible, NULL_PAGE);
    dirty = memcmp(buffer, clean, NULL_PAGE) != 0;
    pthread_mutex_unlock(&exposure->lock);
    if (!dirty)
        return 0;
    result = exposure->backend.write(exposure->backend.opaque, buffer,
                                     null_page_length(exposure, page), page * NULL_PAGE);
    if (result < 0)
        return result;
    pthread_mutex_lock(&exposure->lock);
    memcpy(clean, buffer, NULL_PAGE);
    exposure->loaded[page] = 1;
    pthread_mutex_unlock(&exposure->lock);
    return 0;
}

static int null_sync(void *instance, struct drafter_error *err)
{
    struct null_exposure *exposure = instance;
    int result = 0;

    for (uint64_t page = 0; exposure->path && !exposure->readonly && page < exposure->pages;
         page++) {
        int failed = null_sync_page(exposure, page);

        result = failed < 0 ? failed : result;
    }
    return result < 0 ? drafter_error_errno(err, -result, "%s: cannot write back", exposure->path)
                      : 0;
}

static int null_read(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct null_exposure *exposure = instance;
    int result;

    if (offset > exposure->size || length > exposure->size - offset)
        return -EINVAL;
    if (!exposure->path)
        return exposure->backend.read(exposure->backend.opaque, buffer, length, offset);
    result = null_populate(exposure, offset, length);
    if (result == 0)
        memcpy(buffer, exposure->visible + offset, length);
    return result;
}

static void null_withdraw(void *instance)
{
    struct null_exposure *exposure = instance;

    if (exposure->path)
        unlink(exposure->path);
    if (exposure->visible)
        munmap(exposure->visible, exposure->mapped_size);
    if (exposure->clean)
        munmap(exposure->clean, exposure->mapped_size);
    free(exposure->path);
    free(exposure->loaded);
    pthread_mutex_destroy(&exposure->lock);
    free(exposure);
}

/* Makes the file and the memory beside it; what was made before a failure is for withdraw. */
static int null_make_cache(struct null_exposure *exposure, const char *path, unsigned flags)
{
    int fd, result = 0;

    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
              flags & DRAFTER_DEVICE_READONLY ? 0400 : 0600);
    if (fd < 0)
        return -errno;
    exposure->path = strdup(path);
    exposure->loaded = calloc(exposure->pages, 1);
    if (!exposure->path || !exposure->loaded)
        result = -ENOMEM;
    else if (ftruncate(fd, (off_t)exposure->size) < 0)
        result = -errno;
    if (!exposure->path)
        unlink(path);
    if (result == 0) {
        exposure->visible =
            mmap(NULL, exposure->mapped_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        exposure->clean = mmap(NULL, exposure->mapped_size, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (exposure->visible == MAP_FAILED || exposure->clean == MAP_FAILED)
            result = -errno;
        exposure->visible = exposure->visible == MAP_FAILED ? NULL : exposure->visible;
        exposure->clean = exposure->clean == MAP_FAILED ? NULL : exposure->clean;
    }
    close(fd);
    return result;
}

static int null_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct null_device *device = instance;
    struct null_exposure *exposure;
    int length, result = 0;

    if (!device->directory)
        return drafter_error_set(err, EINVAL, "null: not started");
    length = device->config->cache
                 ? snprintf(path, path_size, "%s/%s", device->directory, spec->name)
                 : snprintf(path, path_size, "null:%s", spec->name);
    if ((size_t)length >= path_size)
        return drafter_error_set(err, ENAMETOOLONG, "%s: the path is too long", spec->name);
    exposure = calloc(1, sizeof(*exposure));
    if (!exposure)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    exposure->backend = spec->backend;
    exposure->size = spec->size;
    exposure->readonly = spec->flags & DRAFTER_DEVICE_READONLY;
    exposure->pages = (spec->size + NULL_PAGE - 1) / NULL_PAGE;
    exposure->mapped_size = exposure->pages * NULL_PAGE;
    pthread_mutex_init(&exposure->lock, NULL);
    if (device->config->cache)
        result = null_make_cache(exposure, path, spec->flags);
    if (result < 0) {
        null_withdraw(exposure);
        return drafter_error_errno(err, -result, "%s", path);
    }
    *ret_exposure = exposure;
    return 0;
}

static const struct drafter_device_ops null_ops = {
    .start = null_start,
    .expose = null_expose,
    .sync = null_sync,
    .dirty = null_dirty,
    .read = null_read,
    .invalidate = null_invalidate,
    .hint = null_hint,
    .populate = null_populate,
    .withdraw = null_withdraw,
    .stop = null_stop,
};

static const struct drafter_plugin null_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_DEVICE, struct drafter_device_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "null",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "plain files in place of block devices, for tests",
    .options = null_options,
    .config_size = sizeof(struct null_config),
    .create = null_create,
    .destroy = null_destroy,
    .probe = null_probe,
    .ops = &null_ops,
};
DRAFTER_PLUGIN_ENTRY(null_plugin)
