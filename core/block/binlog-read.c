/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a binlog, whoever made it: nothing of it is believed ahead of its checksum and bounds. */
#include "block/binlog.h"

#include "block/binlog-format.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static int read_header(struct binlog_reader *reader, struct drafter_error *err)
{
    struct binlog_header header;

    if (reader->end < sizeof(header) || io_pread_full(reader->fd, &header, sizeof(header), 0) ||
        memcmp(header.magic, BINLOG_MAGIC, sizeof(header.magic)) != 0)
        return drafter_error_set(err, EINVAL, "%s: it is no binlog", reader->path);
    if (le32toh(header.version) != BINLOG_VERSION)
        return drafter_error_set(err, ENOTSUP, "%s: it is a binlog of version %u, this drafter knows %d",
                                 reader->path, le32toh(header.version), BINLOG_VERSION);
    if (le64toh(header.checksum) != binlog_header_checksum(&header) ||
        le32toh(header.length) != sizeof(header) || !memchr(header.device, '\0', sizeof(header.device)))
        return drafter_error_set(err, EBADMSG, "%s: its header is damaged", reader->path);
    reader->at = sizeof(header);
    reader->size = le64toh(header.size);
    reader->started_ns = le64toh(header.started_ns);
    memcpy(reader->device, header.device, sizeof(reader->device));
    return 0;
}

int binlog_open(const char *path, struct binlog_reader *ret_reader, struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct binlog_reader reader = {.path = path, .fd = fd};
    struct stat status;
    int rc;

    if (fd < 0 || fstat(fd, &status))
        return drafter_error_errno(err, errno, "%s", path);
    if (!S_ISREG(status.st_mode))
        return drafter_error_set(err, EINVAL, "%s: it is no file", path);
    reader.end = (uint64_t)status.st_size;
    rc = read_header(&reader, err);
    if (rc)
        return rc;
    steal_fd(&fd);
    *ret_reader = reader;
    return 0;
}

void binlog_reader_close(struct binlog_reader *reader)
{
    close(reader->fd);
    reader->fd = -1;
}

static int damaged(const struct binlog_reader *reader, const char *what, struct drafter_error *err)
{
    return drafter_error_set(err, EBADMSG, "%s: record %llu, at byte %llu, %s", reader->path,
                             (unsigned long long)reader->count + 1, (unsigned long long)reader->at, what);
}

/* What can be in a file that drafter wrote. */
static bool is_sane(const struct binlog_reader *reader, const struct binlog_record *record)
{
    bool piece = record->kind == BINLOG_READ || record->kind == BINLOG_WRITE;

    return binlog_kind_name(record->kind) && record->offset <= reader->size &&
           record->length <= reader->size - record->offset &&
           (!piece || (record->length && record->length <= BINLOG_DATA_MAX)) &&
           (!record->data || record->kind == BINLOG_WRITE);
}

static int read_data(const struct binlog_reader *reader, const struct binlog_record *record, void *data,
                     struct drafter_error *err)
{
    uint64_t at = reader->at + sizeof(struct binlog_entry);

    if (record->length > reader->end - at)
        return damaged(reader, "was not written to its end", err);
    if (io_pread_full(reader->fd, data, (size_t)record->length, at) ||
        XXH3_64bits(data, (size_t)record->length) != record->hash)
        return damaged(reader, "has damaged data", err);
    return 0;
}

int binlog_next(struct binlog_reader *reader, struct binlog_record *ret_record, void *data,
                struct drafter_error *err)
{
    struct binlog_entry entry;
    struct binlog_record record;
    int rc;

    if (reader->complete || reader->at == reader->end)
        return 0;
    if (reader->end - reader->at < sizeof(entry))
        return damaged(reader, "was not written to its end", err);
    rc = io_pread_full(reader->fd, &entry, sizeof(entry), reader->at);
    if (rc)
        return drafter_error_errno(err, -rc, "%s", reader->path);
    if (le64toh(entry.checksum) != binlog_entry_checksum(&entry))
        return damaged(reader, io_is_zero(&entry, sizeof(entry)) ? "was not written" : "is damaged", err);
    record = (struct binlog_record){.kind = (enum binlog_kind)le32toh(entry.kind),
                                    .time_ns = le64toh(entry.time_ns),
                                    .offset = le64toh(entry.offset),
                                    .length = le64toh(entry.length),
                                    .hash = le64toh(entry.hash),
                                    .data = le32toh(entry.flags) & BINLOG_FLAG_DATA};
    if (!is_sane(reader, &record))
        return damaged(reader, "cannot be", err);
    rc = record.data ? read_data(reader, &record, data, err) : 0;
    if (rc)
        return rc;
    reader->at += sizeof(entry) + (record.data ? record.length : 0);
    reader->count++;
    reader->complete = record.kind == BINLOG_END;
    *ret_record = record;
    return reader->complete ? 0 : 1;
}

void binlog_invent(const struct binlog_record *record, void *data)
{
    uint64_t state = record->hash | 1, *words = data;

    for (uint64_t i = 0; i < record->length / sizeof(state); i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(&words[i], &state, sizeof(state));
    }
    memset((char *)data + record->length / sizeof(state) * sizeof(state), (int)state, record->length % sizeof(state));
}
