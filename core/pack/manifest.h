/* SPDX-License-Identifier: BSD-2-Clause */
/* The manifest of a package: what is in it, where, and what a host must be to run it. */
#ifndef PACK_MANIFEST_H
#define PACK_MANIFEST_H

#include "pack/format.h"

#include <jansson.h>

#define PACK_MANIFEST_MAX (UINT32_C(1) << 20)

struct pack_device {
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t size;   /* plain */
    uint64_t offset; /* of its tar header's frame in the file; its own frames follow */
    uint64_t table;  /* of the frame with its table */
    uint32_t frames;
    uint32_t header_size, table_size;    /* of those frames */
    uint8_t table_hash[PACK_HASH_SIZE];  /* BLAKE2b-256 of the table */
};

struct pack_manifest {
    uint32_t frame_size;
    int level;
    char zstd[16]; /* the version that compressed: another one may give other bytes */
    struct pack_device devices[PACK_DEVICES_MAX];
    unsigned device_count;
    json_t *vm; /* what the VM needs, as in the config device; NULL: nothing is known */
};

/* Fresh text that the caller frees, the same for the same manifest; NULL when memory is short. */
char *pack_manifest_encode(const struct pack_manifest *manifest);

/* Everything is within bounds afterwards, but for what only the file can show. */
int pack_manifest_decode(const char *text, size_t length, struct pack_manifest *ret_manifest,
                         struct drafter_error *err);
void pack_manifest_release(struct pack_manifest *manifest);

const struct pack_device *pack_manifest_find(const struct pack_manifest *manifest, const char *name);

/* What can be a device's name, and an entry's. */
bool pack_name_valid(const char *name);

#endif
