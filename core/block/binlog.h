/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A binlog: what a VMM did with a device, in one file, to be looked at or done again.
 *
 *     header   128 bytes: magic, version, size and name of the device, when it began, checksum
 *     record    48 bytes: checksum, time, offset, length, hash of the data, kind, flags; and, of a write, its data
 *
 * All numbers are little endian, checksums and hashes XXH3-64.  Of reads only the hash is kept, so that a replay
 * knows what they must give.  Records are in the order in which their operations ended; one that overlaps another in
 * time may stand on either side of it.  A process that is killed leaves a file that ends somewhere, or with a hole.
 */
#ifndef BLOCK_BINLOG_H
#define BLOCK_BINLOG_H

#include <drafter/common.h>

#define BINLOG_VERSION 1
#define BINLOG_DATA_MAX ((size_t)1 << 20) /* of one record; larger operations are several */

enum binlog_kind {
    BINLOG_READ = 1,
    BINLOG_WRITE = 2,
    BINLOG_ZERO = 3, /* a write of zeros; no data */
    BINLOG_FLUSH = 4,
    BINLOG_TRIM = 5,
    BINLOG_END = 6, /* the recording ended in good order */
};

struct binlog_record {
    enum binlog_kind kind;
    uint64_t time_ns;        /* since the recording began */
    uint64_t offset, length; /* within the device */
    uint64_t hash;           /* of what was read or written */
    bool data;               /* of a write: it was recorded */
};

/* "read"; NULL for what is no kind. */
const char *binlog_kind_name(enum binlog_kind kind);

/* ---- recording */

struct binlog;

/* Makes the file anew.  It never grows beyond `limit`; without `data` writes are recorded by their hash alone. */
int binlog_create(const char *path, const char *device, uint64_t size, uint64_t limit, bool data,
                  struct binlog **ret_log, struct drafter_error *err);

/*
 * Any thread; an operation that succeeded.  A record that cannot be written ends the recording with a warning and
 * disturbs nobody.
 */
void binlog_add(struct binlog *log, enum binlog_kind kind, const void *data, uint64_t length,
                uint64_t offset);

/* Nobody adds any more.  NULL is allowed. */
void binlog_close(struct binlog *log);

/* ---- reading */

struct binlog_reader {
    const char *path; /* borrowed */
    int fd;
    uint64_t at, end; /* in the file */
    uint64_t count;   /* records so far */
    uint64_t size;    /* of the device */
    uint64_t started_ns; /* CLOCK_REALTIME */
    char device[DRAFTER_NAME_MAX + 1];
    bool complete; /* its end was seen */
};

/* -EINVAL: it is no binlog; -ENOTSUP: of another version. */
int binlog_open(const char *path, struct binlog_reader *ret_reader, struct drafter_error *err);
void binlog_reader_close(struct binlog_reader *reader);

/*
 * The next record, within the bounds of the device, and its data (BINLOG_DATA_MAX bytes of room): 1, 0 at the end,
 * -EBADMSG for what is damaged or was not written to its end.
 */
int binlog_next(struct binlog_reader *reader, struct binlog_record *ret_record, void *data,
                struct drafter_error *err);

/* Data for a write that was recorded without: the same for the same record. */
void binlog_invent(const struct binlog_record *record, void *data);

#endif
