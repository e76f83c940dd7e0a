/* SPDX-License-Identifier: BSD-2-Clause */
/* Archives that other tools wrote, read by libarchive. */
#include "pack/extract.h"
#include "pack/libarchive.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/output.h"

#include <string.h>
#include <sys/stat.h>

struct reading {
    struct archive *archive;
    const char *path;
    const struct pack_extract_options *options;
    struct output outputs[PACK_DEVICES_MAX];
    bool found[PACK_DEVICES_MAX];
    int64_t consumed; /* of the compressed file */
    struct progress progress;
};

static int open_archive(struct reading *reading, struct drafter_error *err)
{
    struct stat status;
    int rc;

    if (stat(reading->path, &status))
        return drafter_error_errno(err, errno, "%s: cannot open it", reading->path);
    rc = libarchive_open(reading->path, false, &reading->archive, err);
    if (rc)
        return rc;
    if (reading->options)
        progress_begin(&reading->progress, reading->options->progress, "extracting",
                       (uint64_t)status.st_size);
    return 0;
}

/* 1: there is an entry. */
static int next_entry(const struct reading *reading, struct archive_entry **ret_entry,
                      struct drafter_error *err)
{
    int rc = libarchive()->read_next_header(reading->archive, ret_entry);

    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc < ARCHIVE_WARN || !libarchive()->entry_pathname(*ret_entry))
        return libarchive_fault(reading->archive, reading->path, err);
    return 1;
}

static int advance(struct reading *reading, struct drafter_error *err)
{
    const struct pack_extract_options *options = reading->options;
    int64_t consumed = libarchive()->filter_bytes(reading->archive, -1);

    if (consumed > reading->consumed) {
        progress_advance(&reading->progress, (uint64_t)(consumed - reading->consumed));
        reading->consumed = consumed;
    }
    if (options->cancelled && options->cancelled(options->opaque))
        return drafter_error_set(err, ECANCELED, "cancelled");
    return 0;
}

/* Holes of sparse entries, and zeros, stay holes. */
static int copy_data(struct reading *reading, const struct output *output, uint64_t size,
                     struct drafter_error *err)
{
    int rc = ftruncate(output->fd, (off_t)size)
                 ? drafter_error_errno(err, errno, "%s", output->path)
                 : 0;

    while (!rc) {
        const void *data;
        size_t length;
        int64_t offset;
        int got = libarchive()->read_data_block(reading->archive, &data, &length, &offset);

        if (got == ARCHIVE_EOF)
            return 0;
        if (got < ARCHIVE_WARN || offset < 0 || (uint64_t)offset > size ||
            length > size - (uint64_t)offset)
            return libarchive_fault(reading->archive, reading->path, err);
        if (!io_is_zero(data, length))
            rc = io_pwrite_full(output->fd, data, length, (uint64_t)offset);
        rc = rc ? drafter_error_errno(err, -rc, "%s", output->path) : advance(reading, err);
    }
    return rc;
}

static int take_entry(struct reading *reading, struct archive_entry *entry, struct drafter_error *err)
{
    const struct pack_extract_options *options = reading->options;
    const char *name = libarchive()->entry_pathname(entry);
    int64_t size = libarchive()->entry_size(entry);

    for (unsigned i = 0; i < options->count; i++) {
        int rc;

        if (strcmp(options->files[i].name, name) != 0)
            continue;
        if (reading->found[i])
            return drafter_error_set(err, EBADMSG, "%s: it has %s twice", reading->path, name);
        if (libarchive()->entry_filetype(entry) != AE_IFREG || libarchive()->entry_hardlink(entry) || size < 0)
            return drafter_error_set(err, EBADMSG, "%s: %s is no file", reading->path, name);
        rc = output_open(&reading->outputs[i], options->files[i].path, err);
        if (!rc)
            rc = copy_data(reading, &reading->outputs[i], (uint64_t)size, err);
        reading->found[i] = true;
        return rc;
    }
    return advance(reading, err);
}

static int commit(struct reading *reading, struct drafter_error *err)
{
    const struct pack_extract_options *options = reading->options;
    int rc = 0;

    for (unsigned i = 0; !rc && i < options->count; i++)
        if (!reading->found[i])
            rc = drafter_error_set(err, ENOENT, "%s has no device %s", reading->path,
                                   options->files[i].name);
    for (unsigned i = 0; !rc && i < options->count; i++)
        rc = output_sync(&reading->outputs[i], err);
    for (unsigned i = 0; !rc && i < options->count; i++)
        rc = output_commit(&reading->outputs[i], err);
    return rc;
}

int pack_extract_archive(const char *path, const struct pack_extract_options *options,
                         struct drafter_error *err)
{
    cleanup_free struct reading *reading = calloc(1, sizeof(*reading));
    struct archive_entry *entry;
    int rc, more;

    if (!reading)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (options->count > PACK_DEVICES_MAX)
        return drafter_error_set(err, EINVAL, "more than %d devices", PACK_DEVICES_MAX);
    *reading = (struct reading){.path = path, .options = options, .progress.signals = -1};
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++)
        reading->outputs[i].fd = -1;
    rc = open_archive(reading, err);
    while (!rc && (more = next_entry(reading, &entry, err)) != 0)
        rc = more < 0 ? more : take_entry(reading, entry, err);
    if (!rc)
        rc = commit(reading, err);
    progress_end(&reading->progress, !rc);
    for (unsigned i = 0; i < PACK_DEVICES_MAX; i++)
        output_release(&reading->outputs[i]);
    libarchive_free(reading->archive);
    return rc;
}

int pack_list_archive(const char *path,
                      void (*visit)(void *opaque, const char *name, uint64_t size), void *opaque,
                      struct drafter_error *err)
{
    struct reading reading = {.path = path};
    struct archive_entry *entry;
    int rc = open_archive(&reading, err), more;

    while (!rc && (more = next_entry(&reading, &entry, err)) != 0) {
        if (more < 0)
            rc = more;
        else
            visit(opaque, libarchive()->entry_pathname(entry), (uint64_t)libarchive()->entry_size(entry));
    }
    libarchive_free(reading.archive);
    return rc;
}
