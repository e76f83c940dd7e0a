/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk in memory that records what is asked of it, and what is left of it after a power cut.
 *
 * Between two syncs of a file the order of its writes means nothing: a crash keeps any subset of them,
 * each whole or torn.  Data is torn at 512 bytes.  In files opened as `fragile` it is torn at any 64
 * bytes, which is more than a disk does.  Names (create, rename, remove) wait for a sync of their
 * directory in the same way.
 */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include "cow-io.h"

#define DISK_NAMES 4
#define DISK_FILES 4
#define DISK_PAGES 9344 /* of 4096 bytes: the largest file */
#define DISK_PAGE 4096

struct disk_image {
    struct {
        uint64_t size;
        uint8_t **pages; /* DISK_PAGES, or NULL for no page at all; a NULL page is zeros */
    } files[DISK_FILES];
    uint8_t **owned; /* the pages that are not another image's */
    size_t owned_count, owned_room;
    int names[DISK_NAMES]; /* file of each name, -1: none */
};

enum disk_op_kind { DISK_WRITE, DISK_PUNCH, DISK_TRUNCATE, DISK_NAME, DISK_SYNC, DISK_SYNC_NAMES };

struct disk_op {
    enum disk_op_kind kind;
    int file;         /* or the name that changes */
    uint64_t offset;  /* TRUNCATE: the size */
    uint64_t length;
    uint8_t *data;
    int names[DISK_NAMES]; /* NAME: as they are afterwards */
};

struct disk {
    struct disk_image now;   /* what a process sees */
    struct disk_image start; /* durable content when recording began */
    const char *paths[DISK_NAMES];
    bool fragile[DISK_NAMES];
    bool fragile_file[DISK_FILES];
    bool recording;
    struct disk_op *ops;
    size_t count, room;
    /* Called within a sync of a file, before and after it takes effect: what other threads do. */
    void (*during_sync)(void *opaque, int file, bool after);
    void *opaque;
    struct disk_handle { struct disk *disk; int file; } handles[DISK_FILES];
};

extern const struct cow_io disk_io; /* host: struct disk */

void disk_init(struct disk *disk);
void disk_release(struct disk *disk);

/* A disk that holds what `from` has; `from` must live as long and not change. */
void disk_fork(struct disk *disk, const struct disk *names_of, const struct disk_image *from);

/* The content as it is now becomes durable and the record starts anew. */
void disk_record(struct disk *disk);

void image_init(struct disk_image *image);
void image_release(struct disk_image *image);
void image_fork(struct disk_image *image, const struct disk_image *from);

/*
 * Applies an operation; of a write or punch only the units of `unit` bytes for which
 * keep(opaque, index) is true; all when keep is NULL.
 */
void image_apply(struct disk_image *image, const struct disk_op *op, size_t unit,
                 bool (*keep)(void *opaque, size_t index), void *opaque);

#endif
