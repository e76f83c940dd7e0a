/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state file of a pool of network slots, which a process of another version, or a full disk, may have left.
 * The input is the file's header and what follows it; behind that are zeros up to the file's size.
 */
#include "../../plugins/network/table.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64], path[96];

static void leave(void)
{
    unlink(path);
    rmdir(directory);
}

static void begin(void)
{
    const char *where = getenv("TMPDIR");

    if (*directory)
        return;
    snprintf(directory, sizeof(directory), "%.40s/fuzz-pool.XXXXXX", where ? where : "/tmp");
    if (!mkdtemp(directory))
        abort();
    snprintf(path, sizeof(path), "%s/ark.pool", directory);
    atexit(leave);
}

static void write_file(const uint8_t *data, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size || ftruncate(fd, sizeof(struct table_file)))
        abort();
    close(fd);
}

static bool ends(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

static void check_slot(const struct layout *layout, uint32_t slot)
{
    struct drafter_network_slot described;
    struct slot_addresses addresses;
    char name[IFNAMSIZ];
    uint32_t found;

    layout_describe(layout, slot, &described);
    assert(ends(described.name, sizeof(described.name)) && ends(described.netns, sizeof(described.netns)));
    assert(!strchr(described.name, '/'));
    layout_name(layout, slot, name);
    assert(layout_find(layout, name, &found) && found == slot);
    layout_outer(layout, slot, name);
    assert(*name && ends(name, sizeof(name)));
    layout_slot(layout, slot, LAYOUT_V4, &addresses);
    layout_slot(layout, slot, LAYOUT_V6, &addresses);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct drafter_error err = {0};
    struct table table = TABLE_INIT;
    const struct layout *layout;

    if (size > sizeof(struct table_file))
        return 0;
    begin();
    write_file(data, size);
    if (table_open(&table, directory, "ark", false, &err)) {
        assert(err.code && *err.message);
        return 0;
    }
    layout = &table.file->header.layout;
    if (table.file->header.state != TABLE_EMPTY) {
        assert(layout->slots && layout->slots <= POOL_SLOTS_MAX);
        check_slot(layout, 0);
        check_slot(layout, layout->slots / 2);
        check_slot(layout, layout->slots - 1);
    }
    table_close(&table);
    return 0;
}
