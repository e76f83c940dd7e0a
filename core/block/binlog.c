/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Recording.  Threads record at the same time: each takes its place in the file by an atomic addition and writes
 * there, so that no lock is held across the write.
 */
#include "block/binlog.h"

#include "block/binlog-format.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <endian.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <xxhash.h>

struct binlog {
    int fd;
    char device[DRAFTER_NAME_MAX + 1];
    bool data;
    uint64_t limit, began_ns; /* CLOCK_MONOTONIC */
    _Atomic uint64_t end;     /* where the next record goes */
    _Atomic bool stopped;
};

const char *binlog_kind_name(enum binlog_kind kind)
{
    static const char *const names[] = {NULL, "read", "write", "zero", "flush", "trim", "end"};

    return (unsigned)kind < sizeof(names) / sizeof(*names) ? names[kind] : NULL;
}

uint64_t binlog_header_checksum(const struct binlog_header *header)
{
    return XXH3_64bits(header, offsetof(struct binlog_header, checksum));
}

uint64_t binlog_entry_checksum(const struct binlog_entry *entry)
{
    return XXH3_64bits(&entry->time_ns, sizeof(*entry) - offsetof(struct binlog_entry, time_ns));
}

static int write_header(const struct binlog *log, uint64_t size)
{
    struct binlog_header header = {.magic = BINLOG_MAGIC,
                                   .version = htole32(BINLOG_VERSION),
                                   .length = htole32(sizeof(header)),
                                   .size = htole64(size)};
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    header.started_ns = htole64((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    memcpy(header.device, log->device, sizeof(header.device));
    header.checksum = htole64(binlog_header_checksum(&header));
    return io_pwrite_full(log->fd, &header, sizeof(header), 0);
}

/* What is there is emptied only if it can be a binlog: a device that was named by mistake is not. */
static int open_file(const char *path, struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    char magic[8];
    struct stat status;

    if (fd < 0 || fstat(fd, &status))
        return drafter_error_errno(err, errno, "%s", path);
    if (!S_ISREG(status.st_mode) ||
        (status.st_size && (io_pread_full(fd, magic, sizeof(magic), 0) ||
                            memcmp(magic, BINLOG_MAGIC, sizeof(magic)) != 0)))
        return drafter_error_set(err, EEXIST, "%s: it exists and is no binlog", path);
    if (ftruncate(fd, 0))
        return drafter_error_errno(err, errno, "%s", path);
    return steal_fd(&fd);
}

int binlog_create(const char *path, const char *device, uint64_t size, uint64_t limit, bool data,
                  struct binlog **ret_log, struct drafter_error *err)
{
    cleanup_free struct binlog *log = calloc(1, sizeof(*log));
    int rc;

    if (!log || strlen(device) >= sizeof(log->device))
        return drafter_error_set(err, ENOMEM, "out of memory");
    memcpy(log->device, device, strlen(device) + 1);
    log->fd = open_file(path, err);
    if (log->fd < 0)
        return log->fd;
    log->data = data;
    log->limit = limit;
    log->began_ns = drafter_now_ns();
    log->end = sizeof(struct binlog_header);
    rc = write_header(log, size);
    if (rc) {
        close(log->fd);
        return drafter_error_errno(err, -rc, "%s", path);
    }
    *ret_log = steal(&log);
    return 0;
}

static void stop(struct binlog *log, const char *why)
{
    if (!atomic_exchange(&log->stopped, true))
        log_warning("binlog", "device %s: no more is recorded: %s", log->device, why);
}

static int put(struct binlog *log, const struct binlog_entry *entry, const void *data, size_t length,
               uint64_t offset)
{
    struct iovec parts[] = {{(void *)entry, sizeof(*entry)}, {(void *)data, length}};
    ssize_t done = pwritev(log->fd, parts, length ? 2 : 1, (off_t)offset);

    if (done < 0)
        return -errno;
    return (size_t)done == sizeof(*entry) + length ? 0 : -ENOSPC;
}

/* One record; room for the last one is kept. */
static void add(struct binlog *log, enum binlog_kind kind, const void *data, uint64_t length,
                uint64_t offset)
{
    uint64_t size = sizeof(struct binlog_entry), at, hash = data ? XXH3_64bits(data, (size_t)length) : 0;
    bool stored = kind == BINLOG_WRITE && log->data;
    struct binlog_entry entry = {.time_ns = htole64(drafter_now_ns() - log->began_ns),
                                 .offset = htole64(offset),
                                 .length = htole64(length),
                                 .hash = htole64(hash),
                                 .kind = htole32(kind),
                                 .flags = htole32(stored ? BINLOG_FLAG_DATA : 0)};
    int rc;

    entry.checksum = htole64(binlog_entry_checksum(&entry));
    size += stored ? length : 0;
    at = atomic_fetch_add(&log->end, size);
    if (kind != BINLOG_END && at + size > log->limit - sizeof(entry)) {
        stop(log, "its limit is reached");
        return;
    }
    rc = put(log, &entry, data, stored ? (size_t)length : 0, at);
    if (rc)
        stop(log, strerror(-rc));
}

void binlog_add(struct binlog *log, enum binlog_kind kind, const void *data, uint64_t length,
                uint64_t offset)
{
    uint64_t part;

    if (atomic_load_explicit(&log->stopped, memory_order_relaxed))
        return;
    if (!data)
        add(log, kind, NULL, length, offset);
    for (; data && length; data = (const char *)data + part, offset += part, length -= part) {
        part = length < BINLOG_DATA_MAX ? length : BINLOG_DATA_MAX;
        if (kind == BINLOG_WRITE && io_is_zero(data, (size_t)part))
            add(log, BINLOG_ZERO, NULL, part, offset);
        else
            add(log, kind, data, part, offset);
    }
}

void binlog_close(struct binlog *log)
{
    if (!log)
        return;
    if (!atomic_load(&log->stopped))
        add(log, BINLOG_END, NULL, 0, 0);
    if (close(log->fd))
        log_warning("binlog", "device %s: %s", log->device, strerror(errno));
    free(log);
}
