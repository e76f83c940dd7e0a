/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What outlives the process: which device of the kernel belongs to which of ours, and a descriptor of
 * each, so that the kernel does not release it.  The connections die with the process.  A successor gives
 * the device new ones, and then the kernel sends again what was not answered.
 */
#include "server.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEEP_LAYOUT 1u
#define KEEP_DEVICES_MAX 256

struct kept {
    uint32_t layout, started;
    struct kept_device {
        char name[DRAFTER_NAME_MAX + 1]; /* "": free */
        uint64_t bytes, flags;
        int64_t index;
    } devices[KEEP_DEVICES_MAX];
};

static int map(struct server *server, bool *ret_found, struct drafter_error *err)
{
    void *memory;
    int result;

    *ret_found = false;
    if (!server->keeper)
        return 0;
    result = server->keeper->memory(server->keeper->opaque, "devices", sizeof(struct kept), &memory,
                                    ret_found);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot keep the devices", server->id);
    server->kept = memory;
    return 0;
}

int keep_begin(struct server *server, struct drafter_error *err)
{
    bool found;
    int result = map(server, &found, err);

    if (result < 0 || !server->kept)
        return result;
    memset(server->kept, 0, sizeof(*server->kept));
    server->kept->layout = KEEP_LAYOUT;
    server->kept->started = 1;
    return 0;
}

/* What is kept is not trusted more than a file: another binary wrote it. */
static bool valid(const struct kept *kept)
{
    if (kept->layout != KEEP_LAYOUT)
        return false;
    for (unsigned i = 0; i < KEEP_DEVICES_MAX; i++)
        if (kept->devices[i].name[DRAFTER_NAME_MAX] || kept->devices[i].index < 0 ||
            kept->devices[i].index > INT32_MAX)
            return false;
    return true;
}

int keep_find(struct server *server, struct drafter_error *err)
{
    bool found;
    int result = map(server, &found, err);

    if (result < 0)
        return result;
    if (!found || !server->kept->started)
        result = drafter_error_set(err, ENOENT, "%s: no devices were left", server->id);
    else if (!valid(server->kept))
        result = drafter_error_set(err, EPROTO,
                                   "%s: the devices that were left are of another version", server->id);
    if (result < 0)
        keep_end(server);
    return result;
}

void keep_end(struct server *server)
{
    if (server->kept)
        munmap(server->kept, sizeof(*server->kept));
    server->kept = NULL;
}

static struct kept_device *entry_of(struct kept *kept, const char *name)
{
    for (unsigned i = 0; i < KEEP_DEVICES_MAX; i++)
        if (strcmp(kept->devices[i].name, name) == 0)
            return &kept->devices[i];
    return NULL;
}

/* Puts a descriptor under the name of an entry. */
static int put(struct server *server, const struct kept_device *entry, int fd)
{
    char name[32];

    snprintf(name, sizeof(name), "device%td", entry - server->kept->devices);
    return server->keeper->put(server->keeper->opaque, name, fd);
}

int keep_add(struct export *export)
{
    struct server *server = export->server;
    struct kept_device *entry;
    int result;

    if (!server->kept)
        return 0;
    entry = entry_of(server->kept, "");
    if (!entry)
        return -EMFILE;
    result = put(server, entry, export->node.fd);
    if (result < 0)
        return result;
    entry->bytes = export->bytes;
    entry->flags = export->flags;
    entry->index = export->index;
    /* Its first letter makes it an entry: whoever comes after a crash finds all of it or none. */
    memcpy(entry->name + 1, export->name + 1, sizeof(entry->name) - 1);
    __atomic_store_n(&entry->name[0], export->name[0], __ATOMIC_RELEASE);
    return 0;
}

/* The holder forgets nothing: its descriptor of the device is replaced by one of no interest. */
void keep_remove(struct export *export)
{
    struct server *server = export->server;
    struct kept_device *entry = server->kept ? entry_of(server->kept, export->name) : NULL;
    int fd;

    if (!entry)
        return;
    entry->name[0] = '\0';
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    put(server, entry, fd);
    close(fd);
}

int keep_take(const struct export *export, int *ret_index, int *ret_fd)
{
    struct server *server = export->server;
    const struct kept_device *entry = entry_of(server->kept, export->name);
    char name[32];

    if (!entry || entry->bytes != export->bytes || entry->flags != export->flags)
        return -ENODEV;
    *ret_index = (int)entry->index;
    snprintf(name, sizeof(name), "device%td", entry - server->kept->devices);
    return server->keeper->take(server->keeper->opaque, name, ret_fd);
}
