/* SPDX-License-Identifier: BSD-2-Clause */
/* A binlog's bytes. */
#ifndef BLOCK_BINLOG_FORMAT_H
#define BLOCK_BINLOG_FORMAT_H

#include "block/binlog.h"

#define BINLOG_MAGIC "drafterB"
#define BINLOG_FLAG_DATA 1u

struct binlog_header {
    char magic[8];
    uint32_t version, length; /* of this header */
    uint64_t size, started_ns;
    char device[DRAFTER_NAME_MAX + 1]; /* ends with a NUL */
    uint64_t reserved[3];
    uint64_t checksum; /* of all before */
};

struct binlog_entry {
    uint64_t checksum; /* of all behind, without the data */
    uint64_t time_ns, offset, length, hash;
    uint32_t kind, flags;
};

_Static_assert(sizeof(struct binlog_header) == 128, "the format's");
_Static_assert(sizeof(struct binlog_entry) == 48, "the format's");

uint64_t binlog_header_checksum(const struct binlog_header *header);
uint64_t binlog_entry_checksum(const struct binlog_entry *entry);

#endif
