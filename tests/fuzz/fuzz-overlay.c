/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as the state file of a cow layer: check, open, read, write and flush never crash, and take
 * no more memory than the file pays for.
 *
 * The last byte of the input steers: bit 0 mends the checksums of the headers, bit 1 those of the map
 * sectors (or nothing behind them would ever be reached), bit 2 gives base and overlay the values that
 * the header asks for.
 */
#include "../../plugins/storage/cow/cow.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define STATE_MAX (256 << 10)

struct input {
    uint8_t state[STATE_MAX];
    size_t length;
    bool fitting;
    struct cow_geometry geometry;
};

static struct input input;
static char state_file, overlay_file; /* their addresses are the handles */

static uint64_t base_size(void *instance)
{
    (void)instance;
    return input.fitting ? input.geometry.base_size : 4096;
}

static int base_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    (void)instance;
    if (offset > base_size(NULL) || length > base_size(NULL) - offset)
        abort();
    memset(buffer, 1, length);
    return 0;
}

static int base_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    (void)instance, (void)size, (void)flags, (void)err;
    return 0;
}

static const struct drafter_storage_ops base_ops = {
    .open = base_open, .size = base_size, .pread = base_pread};

const struct drafter_storage_ops *drafter_next_storage(void *next, void **ret_instance)
{
    *ret_instance = next;
    return &base_ops;
}

static int fuzz_open(void *host, const char *path, unsigned flags, void **ret_file)
{
    (void)host;
    (void)flags;
    *ret_file = strcmp(path, "state") == 0 ? &state_file : &overlay_file;
    return 0;
}

static void fuzz_close(void *file)
{
    (void)file;
}

static int fuzz_size(void *file, uint64_t *ret_size)
{
    *ret_size = file == &state_file ? input.length
                                    : cow_geometry_trailer(&input.geometry) + COW_SECTOR;
    return 0;
}

static int fuzz_pread(void *file, void *buffer, size_t length, uint64_t offset)
{
    if (file == &state_file) {
        if (offset > input.length || length > input.length - offset)
            return -ENODATA;
        memcpy(buffer, input.state + offset, length);
        return 0;
    }
    memset(buffer, 0, length);
    if (offset == cow_geometry_trailer(&input.geometry) && length == COW_SECTOR && input.fitting)
        cow_trailer_encode(&input.geometry, buffer);
    return 0;
}

static int fuzz_pwrite(void *file, const void *buffer, size_t length, uint64_t offset)
{
    if (file != &state_file)
        return 0;
    if (offset > input.length || length > input.length - offset)
        return -ENOSPC;
    memcpy(input.state + offset, buffer, length);
    return 0;
}

static int fuzz_sync(void *file)
{
    (void)file;
    return 0;
}

static int fuzz_refuse_size(void *file, uint64_t size)
{
    (void)file;
    (void)size;
    return -ENOSPC;
}

static int fuzz_punch(void *file, uint64_t length, uint64_t offset)
{
    (void)file;
    (void)length;
    (void)offset;
    return 0;
}

static int fuzz_seek(void *file, uint64_t offset, bool data, uint64_t *ret_offset)
{
    uint64_t size;

    fuzz_size(file, &size);
    *ret_offset = data || offset > size ? size : offset;
    return 0;
}

static int fuzz_rename(void *host, const char *from, const char *to)
{
    (void)host;
    (void)from;
    (void)to;
    return -ENOSPC;
}

static int fuzz_name(void *host, const char *path)
{
    (void)host;
    (void)path;
    return 0;
}

static const struct cow_io fuzz_io = {
    .open = fuzz_open,
    .close = fuzz_close,
    .size = fuzz_size,
    .pread = fuzz_pread,
    .pwrite = fuzz_pwrite,
    .sync = fuzz_sync,
    .truncate = fuzz_refuse_size,
    .punch = fuzz_punch,
    .seek = fuzz_seek,
    .rename = fuzz_rename,
    .remove = fuzz_name,
    .sync_parent = fuzz_name,
};

static void ignore_line(void *opaque, const char *line)
{
    (void)opaque;
    if (strlen(line) > 600)
        abort();
}

static void mend(uint8_t *sector, const uint8_t *id)
{
    uint64_t seed, sum;

    memcpy(&seed, id, 8);
    sum = htole64(XXH3_64bits_withSeed(sector, COW_SECTOR - 8, le64toh(seed)));
    memcpy(sector + COW_SECTOR - 8, &sum, 8);
}

static void prepare(const uint8_t *data, size_t size)
{
    uint8_t how = data[size - 1];
    uint8_t id[16];

    input.length = size - 1;
    memcpy(input.state, data, size - 1);
    input.fitting = false;
    input.geometry = (struct cow_geometry){.pages = 1};
    if (input.length < COW_MAP_OFFSET)
        return;
    memcpy(id, input.state + 32, sizeof id);
    if (how & 1) {
        mend(input.state, id);
        mend(input.state + COW_HEADER_COPY, input.state + COW_HEADER_COPY + 32);
    }
    for (size_t at = COW_MAP_OFFSET; how & 2 && at + COW_SECTOR <= input.length; at += COW_SECTOR)
        mend(input.state + at, id);
    if (how & 4 && (cow_header_decode(input.state, &input.geometry) == 0 ||
                    cow_header_decode(input.state + COW_HEADER_COPY, &input.geometry) == 0))
        input.fitting = true;
}

static void use(struct cow *cow)
{
    uint64_t size = cow_size(cow), length;
    enum drafter_extent_kind kind;
    uint8_t buffer[8192];
    size_t n = size < sizeof buffer ? (size_t)size : sizeof buffer;
    bool own;

    (void)cow_pread(cow, buffer, n, size - n);
    (void)cow_pwrite(cow, buffer, n, size / 2 / 512 * 512 < size - n ? size / 2 / 512 * 512 : 0);
    (void)cow_extent(cow, 0, size, &kind, &length);
    (void)cow_layer(cow, 0, size, &own, &length);
    (void)cow_flush(cow);
    if (cow_pread(cow, buffer, 1, size) != -EINVAL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct cow_config config = {.overlay = "overlay", .state = "state"};
    struct drafter_context context = {.struct_size = sizeof context, .next = &input};
    struct drafter_error err = {0};
    struct cow *cow;

    if (size == 0 || size > STATE_MAX)
        return 0;
    prepare(data, size);
    if (cow_new(&context, &config, &fuzz_io, NULL, &cow, &err) < 0)
        abort();
    (void)cow_check(cow, ignore_line, NULL, &err);
    if (cow_open(cow, 0, 0, &err) == 0)
        use(cow);
    else if (!err.message[0])
        abort();
    cow_free(cow);
    return 0;
}
