/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Binlogs: what is read lies within the device, and reading ends.  Checksums are made good first, or nothing would
 * come behind the header.
 */
#include "block/binlog-format.h"
#include "util/io.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#define SIZE_MAX_ 65536

/* The checksums of so many records, and the hashes of their data, become right. */
static void mend(uint8_t *file, size_t size, unsigned records)
{
    struct binlog_header header;
    struct binlog_entry entry;
    size_t at = sizeof(header);

    if (size < sizeof(header))
        return;
    memcpy(&header, file, sizeof(header));
    header.checksum = htole64(binlog_header_checksum(&header));
    memcpy(file, &header, sizeof(header));
    while (records-- && size - at >= sizeof(entry)) {
        uint64_t length;

        memcpy(&entry, file + at, sizeof(entry));
        length = le32toh(entry.flags) & BINLOG_FLAG_DATA ? le64toh(entry.length) : 0;
        if (length > size - at - sizeof(entry))
            length = 0;
        if (length)
            entry.hash = htole64(XXH3_64bits(file + at + sizeof(entry), (size_t)length));
        entry.checksum = htole64(binlog_entry_checksum(&entry));
        memcpy(file + at, &entry, sizeof(entry));
        at += sizeof(entry) + (size_t)length;
    }
}

static void read_all(const char *path)
{
    static char data[BINLOG_DATA_MAX];
    struct drafter_error err = {0};
    struct binlog_reader reader;
    struct binlog_record record;
    int rc = binlog_open(path, &reader, &err);

    if (rc) {
        assert(err.code == -rc && err.message[0]);
        return;
    }
    while ((rc = binlog_next(&reader, &record, data, &err)) == 1) {
        assert(record.offset <= reader.size && record.length <= reader.size - record.offset);
        assert(binlog_kind_name(record.kind) && reader.at <= reader.end);
        if (record.kind == BINLOG_READ || record.kind == BINLOG_WRITE)
            assert(record.length && record.length <= BINLOG_DATA_MAX);
        if (record.kind == BINLOG_WRITE && !record.data)
            binlog_invent(&record, data);
    }
    assert(rc <= 0 && (!rc || err.message[0]));
    binlog_reader_close(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[SIZE_MAX_];
    char path[64];
    int fd;

    if (size < 1 || size > sizeof(file))
        return 0;
    memcpy(file, data + 1, size - 1);
    if (data[0])
        mend(file, size - 1, data[0]);
    fd = memfd_create("binlog", MFD_CLOEXEC);
    assert(fd >= 0 && io_write_full(fd, file, size - 1) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_all(path);
    close(fd);
    return 0;
}
