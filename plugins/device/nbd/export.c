/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One device.
 *
 * The kernel sends a request again on another connection when it was not answered for long.  Then the
 * first one may still be going on, and must not write after the second: so changes of the same bytes
 * go one after the other.
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>

static const char zeros[64 << 10];

void export_init(struct export *export, struct server *server,
                 const struct drafter_device_spec *spec)
{
    *export = (struct export){.server = server, .bytes = spec->size, .flags = spec->flags, .index = -1};
    /* The kernel wants sectors, and a page at least; other clients get every byte and no other. */
    export->size = server->config->attach == ATTACH_NONE ? spec->size : node_round(spec->size);
    memcpy(export->name, spec->name, strnlen(spec->name, DRAFTER_NAME_MAX));
    memcpy(&export->backend, &spec->backend,
           spec->backend.struct_size && spec->backend.struct_size < sizeof(export->backend)
               ? spec->backend.struct_size
               : sizeof(export->backend));
    node_init(&export->node);
    pthread_mutex_init(&export->lock, NULL);
    pthread_cond_init(&export->change, NULL);
}

void export_release(struct export *export)
{
    pthread_cond_destroy(&export->change);
    pthread_mutex_destroy(&export->lock);
    free(export);
}

static struct export *find(struct server *server, const char *name, size_t length)
{
    for (struct export *export = server->exports; export; export = export->next)
        if (strlen(export->name) == length && memcmp(export->name, name, length) == 0)
            return export;
    if (length == 0 && server->exports && !server->exports->next)
        return server->exports;
    return NULL;
}

void export_hold(struct export *export)
{
    pthread_mutex_lock(&export->lock);
    export->users++;
    pthread_mutex_unlock(&export->lock);
}

/* Under one lock, so that whoever ends an export's clients finds all of them. */
struct export *export_use(struct server *server, const char *name, size_t length,
                          struct export **ret_export)
{
    struct export *export;

    pthread_mutex_lock(&server->lock);
    export = find(server, name, length);
    if (export) {
        export_hold(export);
        *ret_export = export;
    }
    pthread_mutex_unlock(&server->lock);
    return export;
}

void export_leave(struct export *export)
{
    pthread_mutex_lock(&export->lock);
    export->users--;
    pthread_cond_broadcast(&export->change);
    pthread_mutex_unlock(&export->lock);
}

void export_close(struct export *export)
{
    pthread_mutex_lock(&export->lock);
    export->withdrawn = true;
    while (export->busy > 0 || export->users > 0)
        pthread_cond_wait(&export->change, &export->lock);
    pthread_mutex_unlock(&export->lock);
}

static bool enter(struct export *export)
{
    bool open;

    pthread_mutex_lock(&export->lock);
    open = !export->withdrawn;
    export->busy += open;
    pthread_mutex_unlock(&export->lock);
    return open;
}

static void leave(struct export *export)
{
    pthread_mutex_lock(&export->lock);
    if (--export->busy == 0)
        pthread_cond_broadcast(&export->change);
    pthread_mutex_unlock(&export->lock);
}

static bool overlaps_any(const struct change *changes, const struct change *mine)
{
    for (; changes; changes = changes->next)
        if (mine->begin < changes->end && changes->begin < mine->end)
            return true;
    return false;
}

/* Enters, once no other change of these bytes is going on. */
static bool begin_change(struct export *export, struct change *mine)
{
    bool open;

    pthread_mutex_lock(&export->lock);
    while (!export->withdrawn && overlaps_any(export->changes, mine))
        pthread_cond_wait(&export->change, &export->lock);
    open = !export->withdrawn;
    if (open) {
        mine->next = export->changes;
        export->changes = mine;
        export->busy++;
    }
    pthread_mutex_unlock(&export->lock);
    return open;
}

static void end_change(struct export *export, struct change *mine)
{
    pthread_mutex_lock(&export->lock);
    for (struct change **at = &export->changes; *at; at = &(*at)->next) {
        if (*at != mine)
            continue;
        *at = mine->next;
        break;
    }
    export->busy--;
    pthread_cond_broadcast(&export->change);
    pthread_mutex_unlock(&export->lock);
}

/* The part of a range that the device has. */
static uint64_t inside(const struct export *export, uint64_t length, uint64_t offset)
{
    if (offset >= export->bytes)
        return 0;
    return length < export->bytes - offset ? length : export->bytes - offset;
}

bool export_present(struct export *export, uint64_t length, uint64_t offset)
{
    uint64_t have = inside(export, length, offset);

    if (have == 0)
        return true;
    return export->backend.present &&
           export->backend.present(export->backend.opaque, have, offset);
}

int export_read(struct export *export, bool view, void *buffer, size_t length, uint64_t offset)
{
    size_t have = (size_t)inside(export, length, offset);
    int result = 0;

    if (!enter(export))
        return -ESHUTDOWN;
    if (have < length)
        memset((char *)buffer + have, 0, length - have);
    if (atomic_load(&export->settling) && export->backend.present &&
        !export_present(export, length, offset))
        result = -EIO;
    else if (have && view)
        result = node_read(&export->node, buffer, have, offset);
    else if (have)
        result = export->backend.read(export->backend.opaque, buffer, have, offset);
    leave(export);
    return result;
}

static void note_error(struct export *export, int result)
{
    int none = 0;

    if (result < 0)
        atomic_compare_exchange_strong(&export->write_error, &none, -result);
}

int export_write(struct export *export, const void *buffer, size_t length, uint64_t offset)
{
    struct change mine = {.begin = offset, .end = offset + length};
    size_t have = (size_t)inside(export, length, offset);
    int result = 0;

    if (!begin_change(export, &mine))
        return -ESHUTDOWN;
    if (have)
        result = export->backend.write(export->backend.opaque, buffer, have, offset);
    end_change(export, &mine);
    note_error(export, result);
    return result;
}

/* A trim need not leave zeros behind, so that zeros are written. */
int export_zero(struct export *export, uint64_t length, uint64_t offset)
{
    int result = 0;

    while (length > 0 && result == 0) {
        size_t part = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);

        result = export_write(export, zeros, part, offset);
        offset += part;
        length -= part;
    }
    return result;
}

int export_trim(struct export *export, uint64_t length, uint64_t offset)
{
    struct change mine = {.begin = offset, .end = offset + length};
    uint64_t have = inside(export, length, offset);
    int result = 0;

    if (node_swallows(&export->node, length, offset))
        return 0;
    if (!begin_change(export, &mine))
        return -ESHUTDOWN;
    if (have && export->backend.trim)
        result = export->backend.trim(export->backend.opaque, have, offset);
    end_change(export, &mine);
    return result;
}

int export_flush(struct export *export)
{
    int result = 0;

    if (!enter(export))
        return -ESHUTDOWN;
    if (export->backend.flush)
        result = export->backend.flush(export->backend.opaque);
    leave(export);
    return result;
}

uint16_t export_transmission_flags(const struct export *export, bool view)
{
    uint16_t flags = NBD_TX_HAS_FLAGS | NBD_TX_SEND_FLUSH | NBD_TX_CAN_MULTI_CONN;

    if (view || (export->flags & DRAFTER_DEVICE_READONLY))
        return flags | NBD_TX_READ_ONLY;
    return flags | NBD_TX_SEND_FUA | NBD_TX_SEND_TRIM | NBD_TX_SEND_WRITE_ZEROES;
}
