/* SPDX-License-Identifier: BSD-2-Clause */
/* See disk.h. */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

void image_init(struct disk_image *image)
{
    memset(image, 0, sizeof *image);
    for (int i = 0; i < DISK_NAMES; i++)
        image->names[i] = -1;
}

void image_release(struct disk_image *image)
{
    for (size_t i = 0; i < image->owned_count; i++)
        free(image->owned[i]);
    free(image->owned);
    for (int i = 0; i < DISK_FILES; i++)
        free(image->files[i].pages);
    memset(image, 0, sizeof *image);
}

void image_fork(struct disk_image *image, const struct disk_image *from)
{
    size_t length = DISK_PAGES * sizeof(uint8_t *);

    image_init(image);
    memcpy(image->names, from->names, sizeof image->names);
    for (int i = 0; i < DISK_FILES; i++) {
        image->files[i].size = from->files[i].size;
        if (from->files[i].pages)
            image->files[i].pages = memcpy(must(malloc(length)), from->files[i].pages, length);
    }
}

static const uint8_t *image_look(const struct disk_image *image, int file, size_t page)
{
    return image->files[file].pages ? image->files[file].pages[page] : NULL;
}

static bool image_owns(const struct disk_image *image, const uint8_t *page)
{
    for (size_t i = 0; i < image->owned_count; i++) {
        if (image->owned[i] == page)
            return true;
    }
    return false;
}

static uint8_t *image_own(struct disk_image *image)
{
    if (image->owned_count == image->owned_room) {
        image->owned_room = image->owned_room ? image->owned_room * 2 : 16;
        image->owned = must(realloc(image->owned, image->owned_room * sizeof *image->owned));
    }
    return image->owned[image->owned_count++] = must(calloc(1, DISK_PAGE));
}

/* The page for writing: its own copy. */
static uint8_t *image_page(struct disk_image *image, int file, size_t page)
{
    uint8_t ***pages = &image->files[file].pages;
    const uint8_t *old;

    assert(page < DISK_PAGES);
    if (!*pages)
        *pages = must(calloc(DISK_PAGES, sizeof **pages));
    old = (*pages)[page];
    if (old && image_owns(image, old))
        return (*pages)[page];
    (*pages)[page] = image_own(image);
    if (old)
        memcpy((*pages)[page], old, DISK_PAGE);
    return (*pages)[page];
}

static void image_store(struct disk_image *image, int file, const uint8_t *data, uint64_t length,
                        uint64_t offset)
{
    while (length > 0) {
        size_t at = offset % DISK_PAGE, n = DISK_PAGE - at < length ? DISK_PAGE - at : length;
        size_t page = offset / DISK_PAGE;

        if (data)
            memcpy(image_page(image, file, page) + at, data, n);
        else if (image_look(image, file, page))
            memset(image_page(image, file, page) + at, 0, n);
        data = data ? data + n : NULL;
        offset += n;
        length -= n;
    }
}

/* Whole pages of zeros are holes again. */
static void image_drop(struct disk_image *image, int file, uint64_t from, uint64_t to)
{
    uint64_t page = (from + DISK_PAGE - 1) / DISK_PAGE;

    for (; image->files[file].pages && (page + 1) * DISK_PAGE <= to; page++)
        image->files[file].pages[page] = NULL;
}

static void image_truncate(struct disk_image *image, int file, uint64_t size)
{
    uint64_t old = image->files[file].size;

    if (size < old) {
        image_store(image, file, NULL, old - size, size);
        image_drop(image, file, size, (old + DISK_PAGE - 1) / DISK_PAGE * DISK_PAGE);
    }
    image->files[file].size = size;
}

static void apply_range(struct disk_image *image, const struct disk_op *op, uint64_t offset,
                        uint64_t length)
{
    const uint8_t *data = op->data ? op->data + (offset - op->offset) : NULL;
    uint64_t *size = &image->files[op->file].size;

    image_store(image, op->file, data, length, offset);
    if (op->kind == DISK_PUNCH)
        image_drop(image, op->file, offset, offset + length);
    else if (*size < offset + length)
        *size = offset + length;
}

void image_apply(struct disk_image *image, const struct disk_op *op, size_t unit,
                 bool (*keep)(void *opaque, size_t index), void *opaque)
{
    uint64_t end = op->offset + op->length;

    switch (op->kind) {
    case DISK_TRUNCATE:
        image_truncate(image, op->file, op->offset);
        return;
    case DISK_NAME:
        image->names[op->file] = op->names[op->file];
        for (int i = 0; i < DISK_NAMES; i++) { /* a rename takes the other name away at once */
            if (i != op->file && image->names[i] >= 0 && image->names[i] == op->names[op->file])
                image->names[i] = -1;
        }
        return;
    case DISK_WRITE:
    case DISK_PUNCH:
        if (!keep) {
            apply_range(image, op, op->offset, op->length);
            return;
        }
        for (uint64_t at = op->offset, i = 0; at < end; i++) {
            uint64_t next = (at / unit + 1) * unit;

            next = next < end ? next : end;
            if (keep(opaque, (size_t)i))
                apply_range(image, op, at, next - at);
            at = next;
        }
        return;
    default:
        return;
    }
}

void disk_init(struct disk *disk)
{
    *disk = (struct disk){.recording = false};
    image_init(&disk->now);
    image_init(&disk->start);
    for (int i = 0; i < DISK_FILES; i++)
        disk->handles[i] = (struct disk_handle){disk, i};
}

void disk_fork(struct disk *disk, const struct disk *names_of, const struct disk_image *from)
{
    *disk = (struct disk){.recording = false};
    memcpy(disk->paths, names_of->paths, sizeof disk->paths);
    memcpy(disk->fragile, names_of->fragile, sizeof disk->fragile);
    memcpy(disk->fragile_file, names_of->fragile_file, sizeof disk->fragile_file);
    image_fork(&disk->now, from);
    for (int i = 0; i < DISK_FILES; i++)
        disk->handles[i] = (struct disk_handle){disk, i};
}

static void drop_record(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++)
        free(disk->ops[i].data);
    disk->count = 0;
}

void disk_release(struct disk *disk)
{
    drop_record(disk);
    free(disk->ops);
    disk->ops = NULL;
    image_release(&disk->now);
    image_release(&disk->start);
}

void disk_record(struct disk *disk)
{
    struct disk_image copy;

    drop_record(disk);
    image_release(&disk->start);
    image_fork(&copy, &disk->now);
    for (int i = 0; i < DISK_FILES; i++) { /* pages of its own: `now` goes on changing */
        for (size_t p = 0; p < DISK_PAGES; p++) {
            if (image_look(&copy, i, p))
                image_page(&copy, i, p);
        }
    }
    disk->start = copy;
    disk->recording = true;
}

/* Does an operation and records it; takes over `op.data`. */
static void disk_do(struct disk *disk, struct disk_op op)
{
    image_apply(&disk->now, &op, 0, NULL, NULL);
    if (!disk->recording) {
        free(op.data);
        return;
    }
    if (disk->count == disk->room) {
        disk->room = disk->room ? disk->room * 2 : 256;
        disk->ops = must(realloc(disk->ops, disk->room * sizeof *disk->ops));
    }
    disk->ops[disk->count++] = op;
}

static int disk_name(const struct disk *disk, const char *path)
{
    for (int i = 0; i < DISK_NAMES; i++) {
        if (disk->paths[i] && strcmp(disk->paths[i], path) == 0)
            return i;
    }
    return -ENOENT;
}

static void disk_set_name(struct disk *disk, int name, int file)
{
    struct disk_op op = {.kind = DISK_NAME, .file = name};

    memcpy(op.names, disk->now.names, sizeof op.names);
    op.names[name] = file;
    disk_do(disk, op);
}

/* A file number that no name has, now or after any crash: numbers are not used again. */
static int disk_new_file(const struct disk *disk)
{
    int highest = -1;

    for (int i = 0; i < DISK_NAMES; i++)
        highest = disk->now.names[i] > highest ? disk->now.names[i] : highest;
    return highest + 1;
}

static int disk_open(void *host, const char *path, unsigned flags, void **ret_file)
{
    struct disk *disk = host;
    int name = disk_name(disk, path);

    if (name < 0)
        return name;
    if (disk->now.names[name] < 0) {
        int file = disk_new_file(disk);

        if (!(flags & COW_IO_CREATE))
            return -ENOENT;
        assert(file < DISK_FILES);
        disk->fragile_file[file] = disk->fragile[name];
        disk_set_name(disk, name, file);
    }
    *ret_file = &disk->handles[disk->now.names[name]];
    return 0;
}

static void disk_close(void *file)
{
    (void)file;
}

static int disk_size(void *file, uint64_t *ret_size)
{
    struct disk_handle *handle = file;

    *ret_size = handle->disk->now.files[handle->file].size;
    return 0;
}

static int disk_pread(void *file, void *buffer, size_t length, uint64_t offset)
{
    struct disk_handle *handle = file;
    struct disk_image *image = &handle->disk->now;

    if (offset + length > image->files[handle->file].size)
        return -ENODATA;
    while (length > 0) {
        size_t at = offset % DISK_PAGE, n = DISK_PAGE - at < length ? DISK_PAGE - at : length;
        const uint8_t *page = image_look(image, handle->file, offset / DISK_PAGE);

        if (page)
            memcpy(buffer, page + at, n);
        else
            memset(buffer, 0, n);
        buffer = (uint8_t *)buffer + n;
        offset += n;
        length -= n;
    }
    return 0;
}

static int disk_pwrite(void *file, const void *buffer, size_t length, uint64_t offset)
{
    struct disk_handle *handle = file;
    struct disk_op op = {DISK_WRITE, handle->file, offset, length, must(malloc(length)), {0}};

    memcpy(op.data, buffer, length);
    disk_do(handle->disk, op);
    return 0;
}

static int disk_sync(void *file)
{
    struct disk_handle *handle = file;
    struct disk *disk = handle->disk;

    if (disk->during_sync)
        disk->during_sync(disk->opaque, handle->file, false);
    disk_do(disk, (struct disk_op){.kind = DISK_SYNC, .file = handle->file});
    if (disk->during_sync)
        disk->during_sync(disk->opaque, handle->file, true);
    return 0;
}

static int disk_truncate(void *file, uint64_t size)
{
    struct disk_handle *handle = file;

    disk_do(handle->disk,
            (struct disk_op){.kind = DISK_TRUNCATE, .file = handle->file, .offset = size});
    return 0;
}

static int disk_punch(void *file, uint64_t length, uint64_t offset)
{
    struct disk_handle *handle = file;

    disk_do(handle->disk, (struct disk_op){.kind = DISK_PUNCH, .file = handle->file,
                                           .offset = offset, .length = length});
    return 0;
}

static int disk_seek(void *file, uint64_t offset, bool data, uint64_t *ret_offset)
{
    struct disk_handle *handle = file;
    struct disk_image *image = &handle->disk->now;
    uint64_t size = image->files[handle->file].size;

    while (offset < size && (image_look(image, handle->file, offset / DISK_PAGE) != NULL) != data)
        offset = (offset / DISK_PAGE + 1) * DISK_PAGE;
    *ret_offset = offset < size ? offset : size;
    return 0;
}

static int disk_rename(void *host, const char *from, const char *to)
{
    struct disk *disk = host;

    disk_set_name(disk, disk_name(disk, to), disk->now.names[disk_name(disk, from)]);
    return 0;
}

static int disk_remove(void *host, const char *path)
{
    disk_set_name(host, disk_name(host, path), -1);
    return 0;
}

static int disk_sync_parent(void *host, const char *path)
{
    (void)path;
    disk_do(host, (struct disk_op){.kind = DISK_SYNC_NAMES});
    return 0;
}

const struct cow_io disk_io = {
    .open = disk_open,
    .close = disk_close,
    .size = disk_size,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .sync = disk_sync,
    .truncate = disk_truncate,
    .punch = disk_punch,
    .seek = disk_seek,
    .rename = disk_rename,
    .remove = disk_remove,
    .sync_parent = disk_sync_parent,
};
