/* SPDX-License-Identifier: BSD-2-Clause */
/* Packages that a storage plugin keeps: whole ones are sent there, and are read from there. */
#include "role/packager.h"

#include "pack/reader.h"
#include "plugin/storage.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/progress.h"

#include <inttypes.h>

#define STEP ((size_t)1 << 20)

struct sending {
    struct instance *storage;
    const char *id;
    struct pack_source source;
    struct progress progress;
    bool (*cancelled)(void *opaque);
    void *opaque;
};

static int send_bytes(struct sending *sending, struct drafter_error *err)
{
    cleanup_free void *buffer = malloc(STEP);
    uint64_t size = sending->source.size;
    int rc = buffer ? 0 : drafter_error_set(err, ENOMEM, "out of memory");

    for (uint64_t at = 0; !rc && at < size; at += STEP) {
        size_t n = size - at < STEP ? (size_t)(size - at) : STEP;

        if (sending->cancelled && sending->cancelled(sending->opaque))
            return drafter_error_set(err, ECANCELED, "cancelled");
        rc = pack_source_read(&sending->source, buffer, n, at);
        if (rc)
            return drafter_error_errno(err, -rc, "the package cannot be read");
        rc = storage_write(sending->storage, buffer, n, at);
        if (rc)
            return drafter_error_errno(err, -rc, "storage %s: byte %" PRIu64 " cannot be written",
                                       sending->id, at);
        progress_advance(&sending->progress, n);
    }
    if (!rc && (rc = storage_flush(sending->storage)))
        drafter_error_errno(err, -rc, "storage %s: the package cannot be completed", sending->id);
    return rc;
}

int packager_send(struct node *node, const struct packager_options *options,
                  bool (*cancelled)(void *opaque), void *opaque, struct drafter_error *err)
{
    struct sending sending = {.id = options->storage, .cancelled = cancelled, .opaque = opaque};
    uint64_t started = drafter_now_ns();
    int rc = pack_source_open(options->package_path, &sending.source, err);

    if (rc)
        return rc;
    rc = node_instance(node, DRAFTER_KIND_STORAGE, options->storage, &sending.storage, err);
    if (!rc)
        rc = storage_open(sending.storage, sending.source.size, DRAFTER_STORAGE_CREATE, err);
    if (!rc) {
        progress_begin(&sending.progress, (enum progress_form)options->progress, "sending",
                       sending.source.size);
        rc = send_bytes(&sending, err);
        progress_end(&sending.progress, !rc);
    }
    if (!rc)
        log_event("sent", "\"package\":\"%s\",\"storage\":\"%s\",\"size\":%llu,\"ms\":%.0f",
                  options->package_path, options->storage, (unsigned long long)sending.source.size,
                  (double)(drafter_now_ns() - started) / 1e6);
    pack_source_close(&sending.source);
    return rc;
}

static int read_storage(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    return storage_read(opaque, buffer, length, offset);
}

int packager_open(struct node *node, const struct packager_options *options,
                  struct pack_reader *ret_reader, struct drafter_error *err)
{
    struct pack_source source = {.fd = -1, .pread = read_storage};
    struct instance *storage;
    int rc;

    if (!options->storage)
        return pack_reader_open(options->package_path, ret_reader, err);
    rc = node_instance(node, DRAFTER_KIND_STORAGE, options->storage, &storage, err);
    if (!rc)
        rc = storage_open(storage, 0, DRAFTER_STORAGE_READONLY, err);
    if (rc)
        return rc;
    source.opaque = storage;
    source.size = storage_size(storage);
    rc = pack_reader_open_source(options->storage, &source, ret_reader, err);
    return rc == -ENOTSUP ? -EINVAL : rc; /* archives of others are read from front to back, as files */
}
