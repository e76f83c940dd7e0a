/* SPDX-License-Identifier: BSD-2-Clause */
/* A package file: whatever it says, reading it stays within it and within bounds. */
#include "pack/reader.h"
#include "util/io.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void read_device(const struct pack_reader *reader, const struct pack_device *device)
{
    struct pack_codec *codec = pack_codec_new(reader->manifest.frame_size);
    void *buffer = malloc(PACK_ZERO_MAX);
    struct drafter_error err = {0};
    struct pack_table table;

    if (!pack_table_load(reader, device, &table, &err)) {
        assert(table.plain[table.count] >= device->size);
        for (uint32_t i = 0; i < table.count && i < 16; i++) {
            assert(pack_table_find(&table, table.plain[i]) == i);
            pack_frame_read(reader, &table, i, codec, buffer);
        }
        pack_table_release(&table);
    } else {
        assert(err.code && *err.message);
    }
    free(buffer);
    pack_codec_free(codec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("package", MFD_CLOEXEC);
    struct drafter_error err = {0};
    struct pack_reader reader;
    char path[64];

    if (fd < 0 || io_pwrite_full(fd, data, size, 0))
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!pack_reader_open(path, &reader, &err)) {
        for (unsigned i = 0; i < reader.manifest.device_count; i++)
            read_device(&reader, &reader.manifest.devices[i]);
        pack_reader_close(&reader);
    } else {
        assert(err.code && *err.message);
    }
    close(fd);
    return 0;
}
