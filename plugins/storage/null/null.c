/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storage in memory: the reference for the contract in drafter/storage.h, and the mock of the tests,
 * which can make its n-th operation fail.  The bytes end with the instance.
 */
#include <drafter/storage.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BAD_EVERY 65536 /* bytes */

struct null_config {
    uint64_t size;
    uint64_t fail_read_at, fail_write_at, fail_flush;
    uint64_t rot_at;
    uint64_t latency_ns;
    const char *fail_reads_while;
};

struct null {
    const struct null_config *config;
    uint8_t *bytes; /* set by open */
    uint64_t size;  /* set by open */
    bool readonly;  /* set by open */
    _Atomic uint64_t reads, writes, flushes;
    _Atomic uint64_t rot_writes; /* of the page that rots */
    _Atomic bool flush_failed;
};

static int null_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct null *null = calloc(1, sizeof *null);

    (void)context;
    if (!null)
        return drafter_error_set(err, ENOMEM, "null: no memory");
    null->config = config;
    *ret_instance = null;
    return 0;
}

static void null_destroy(void *instance)
{
    struct null *null = instance;

    if (null && null->bytes)
        munmap(null->bytes, null->size);
    free(null);
}

static int null_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct null *null = instance;
    uint64_t have = null->config->size;
    void *bytes;

    if (null->bytes)
        return drafter_error_set(err, EALREADY, "null: is open");
    if (flags & DRAFTER_STORAGE_CREATE && size > have)
        have = size;
    if (!(flags & DRAFTER_STORAGE_CREATE) && size != 0 && size != have)
        return drafter_error_set(err, EINVAL, "null: has %llu bytes, not %llu",
                                 (unsigned long long)have, (unsigned long long)size);
    if (have == 0 || have > SIZE_MAX / 2)
        return drafter_error_set(err, EINVAL, "null: needs a size");
    bytes = mmap(NULL, have, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                 0);
    if (bytes == MAP_FAILED)
        return drafter_error_errno(err, errno, "null: cannot map %llu bytes",
                                   (unsigned long long)have);
    null->bytes = bytes;
    null->size = have;
    null->readonly = flags & DRAFTER_STORAGE_READONLY;
    return 0;
}

static uint64_t null_size(void *instance)
{
    struct null *null = instance;

    return null->size;
}

static void null_wait(const struct null *null)
{
    struct timespec latency = {.tv_sec = (time_t)(null->config->latency_ns / 1000000000),
                               .tv_nsec = (long)(null->config->latency_ns % 1000000000)};

    while (null->config->latency_ns && nanosleep(&latency, &latency) < 0 && errno == EINTR)
        continue;
}

/* Counts a call; true for the one that shall fail. */
static bool null_fails(_Atomic uint64_t *calls, uint64_t fail_at)
{
    return atomic_fetch_add(calls, 1) + 1 == fail_at;
}

static bool null_outside(const struct null *null, uint64_t length, uint64_t offset)
{
    return offset > null->size || length > null->size - offset;
}

static bool null_touches_rot(const struct null *null, uint64_t length, uint64_t offset)
{
    uint64_t at = null->config->rot_at;

    return at && offset < at + DRAFTER_PAGE_SIZE && at < offset + length;
}

static bool null_touches_bad(const struct null *null, uint64_t length, uint64_t offset)
{
    uint64_t next = (offset + BAD_EVERY - 1) / BAD_EVERY * BAD_EVERY;
    const char *path = null->config->fail_reads_while;

    return path && next < offset + length && access(path, F_OK) == 0;
}

static int null_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct null *null = instance;

    if (null_outside(null, length, offset))
        return -EINVAL;
    null_wait(null);
    if (null_fails(&null->reads, null->config->fail_read_at))
        return -EIO;
    if (null_touches_rot(null, length, offset) && null->rot_writes == 1)
        return -EBADMSG;
    if (null_touches_bad(null, length, offset))
        return -EIO;
    memcpy(buffer, null->bytes + offset, length);
    return 0;
}

static int null_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct null *null = instance;

    if (null->readonly)
        return -EROFS;
    if (null_outside(null, length, offset))
        return -EINVAL;
    null_wait(null);
    if (null_fails(&null->writes, null->config->fail_write_at))
        return -EIO;
    if (null_touches_rot(null, length, offset))
        atomic_fetch_add(&null->rot_writes, 1);
    memcpy(null->bytes + offset, buffer, length);
    return 0;
}

static int null_zero(void *instance, uint64_t length, uint64_t offset)
{
    struct null *null = instance;

    if (null->readonly)
        return -EROFS;
    if (null_outside(null, length, offset))
        return -EINVAL;
    null_wait(null);
    if (null_fails(&null->writes, null->config->fail_write_at))
        return -EIO;
    memset(null->bytes + offset, 0, length);
    return 0;
}

static int null_trim(void *instance, uint64_t length, uint64_t offset)
{
    struct null *null = instance;

    if (null->readonly)
        return -EROFS;
    return null_outside(null, length, offset) ? -EINVAL : 0;
}

static int null_flush(void *instance)
{
    struct null *null = instance;

    null_wait(null);
    if (null_fails(&null->flushes, null->config->fail_flush))
        atomic_store(&null->flush_failed, true);
    return atomic_load(&null->flush_failed) ? -EIO : 0;
}

static const struct drafter_option null_options[] = {
    {.key = "size", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct null_config, size),
     .default_value = "0", .unit = "bytes",
     .help = "size of the array when the configuration of the device gives none"},
    {.key = "fail-read-at", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct null_config, fail_read_at), .default_value = "0",
     .help = "number of the read that fails with EIO, 0 for none"},
    {.key = "fail-write-at", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct null_config, fail_write_at), .default_value = "0",
     .help = "number of the write or zero that fails with EIO, 0 for none"},
    {.key = "fail-flush", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct null_config, fail_flush), .default_value = "0",
     .help = "number of the flush that fails with EIO, and with it all later ones; 0 for none"},
    {.key = "fail-reads-while", .type = DRAFTER_OPTION_PATH,
     .offset = offsetof(struct null_config, fail_reads_while),
     .help = "while this file is there, reads of the first page of each 64 KiB fail with EIO"},
    {.key = "rot-at", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct null_config, rot_at),
     .default_value = "0", .unit = "bytes",
     .help = "offset of a page that is not what was written after its first write; 0 for none"},
    {.key = "latency", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct null_config, latency_ns), .default_value = "0",
     .help = "how long each operation takes"},
    DRAFTER_OPTION_END,
};

static const struct drafter_storage_ops null_ops = {
    .open = null_open,
    .size = null_size,
    .pread = null_pread,
    .pwrite = null_pwrite,
    .flush = null_flush,
    .zero = null_zero,
    .trim = null_trim,
};

static const struct drafter_plugin null_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "null",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "storage in memory, for tests",
    .options = null_options,
    .config_size = sizeof(struct null_config),
    .create = null_create,
    .destroy = null_destroy,
    .ops = &null_ops,
};
DRAFTER_PLUGIN_ENTRY(null_plugin)
