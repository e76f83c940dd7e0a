/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy-on-write layer: reads come from the base until a page was written, writes go to a sparse
 * overlay file at the same offsets, a map of one bit per page says which.
 *
 *   cow.c         the plugin: options, life, descriptor
 *   cow-open.c    opening the pair of overlay and state file;  cow-create.c  making it
 *   cow-data.c    read, write, zero, trim, extent, layer
 *   cow-commit.c  flush: data, then map, one commit for all who wait
 *   cow-heat.c    checksums of pages on disk;  cow-sums.c  in memory
 *   cow-check.c   fsck
 *   cow-map.c     the map in memory;  cow-format.c  on disk;  cow-io.c  on real files
 *
 * Locks, in this order; neither is held while the other is taken:
 *   merge[]       a region of the device.  Exclusive: a page gets its first content by merging part of
 *                 it with the base.  Shared: pages get their first content whole.  This is the one
 *                 lock that is held across I/O: two first writes of one page must not undo each other.
 *   commit.lock   who flushes; never held across I/O.
 */
#ifndef COW_H
#define COW_H

#include "cow-io.h"
#include "cow-map.h"
#include "cow-sums.h"

#include <drafter/storage.h>
#include <pthread.h>

#define COW_REGION_PAGES 256
#define COW_STRIPES 64
#define COW_BATCH 128 /* map sectors per transfer: 64 KiB */
#ifndef COW_COOL_EVERY
#define COW_COOL_EVERY 256 /* flushes between two steps of cooling */
#endif

/* For the crash tests, which must find each of these mistakes; see cow-commit.c. */
#ifndef COW_PLANT
#define COW_PLANT 0
#endif

struct cow_config {
    const char *overlay, *state;
    const char *import;
    uint64_t import_block_size;
};

struct cow_commit {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool running;      /* lock */
    uint64_t started;  /* lock; commits begun */
    uint64_t finished; /* lock; commits ended */
    int failed;        /* lock; negative errno of the first failure, for ever */
};

struct cow {
    const struct cow_config *config;
    const struct cow_io *io;
    void *io_host;
    const struct drafter_keeper *keeper; /* or NULL: nothing outlives the process */
    const struct drafter_storage_ops *base;
    void *base_instance;

    /* From here to `map`: set by open, constant afterwards. */
    bool opened, readonly;
    void *overlay, *state;
    struct cow_geometry geometry;
    struct cow_sums sums;
    uint32_t zero_sum; /* of a page of zeros */
    uint64_t commits;  /* the running commit's */
    bool wrote_map;    /* likewise: there is something to sync */
    struct cow_map map; /* atomics, see cow-map.h; staged, staging and copies: the running commit */

    pthread_rwlock_t merge[COW_STRIPES];
    struct cow_commit commit;
    _Atomic uint64_t base_copies; /* pages read from the base in order to merge a partial write */
};

/* As the plugin's create, on any cow_io. */
int cow_new(const struct drafter_context *context, const struct cow_config *config,
            const struct cow_io *io, void *io_host, struct cow **ret_cow, struct drafter_error *err);
void cow_free(struct cow *cow);

int cow_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err);
void cow_close(struct cow *cow); /* lets go of the files without writing anything */

int cow_open_file(struct cow *cow, const char *path, unsigned flags, void **ret_file,
                  struct drafter_error *err);

int cow_init_map(struct cow *cow);

/* Makes a pair and leaves it open; `size` 0 or less than the base's: as large as the base. */
int cow_create_pair(struct cow *cow, uint64_t size, struct drafter_error *err);

/*
 * Puts the map, which is empty, where it outlives the process: bits are on disk only after a flush, but
 * a VM that outlives its drafter goes on with what it wrote before.  *ret_found: it has bits of a drafter
 * that died.
 */
int cow_keep_map(struct cow *cow, bool *ret_found, struct drafter_error *err);

/*
 * Reads the header of an open state file: the first valid copy.  Errors as cow_header_decode, and
 * -ENODATA for an empty file only.
 */
int cow_read_header(struct cow *cow, struct cow_geometry *ret_geometry);

/* Reads map sectors [first, first + count) of both slots; buffers of count * COW_SECTOR bytes. */
int cow_read_sectors(struct cow *cow, uint32_t first, uint32_t count, uint8_t *a, uint8_t *b);

uint64_t cow_size(void *instance);
int cow_pread(void *instance, void *buffer, size_t length, uint64_t offset);
int cow_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset);
int cow_zero(void *instance, uint64_t length, uint64_t offset);
int cow_trim(void *instance, uint64_t length, uint64_t offset);
int cow_extent(void *instance, uint64_t offset, uint64_t length, enum drafter_extent_kind *ret_kind,
               uint64_t *ret_length);
int cow_layer(void *instance, uint64_t offset, uint64_t length, bool *ret_own, uint64_t *ret_length);

int cow_flush(void *instance);

/* Runs `act` as a commit, between flushes.  If it fails, flushes fail from then on. */
int cow_commit_exclusive(struct cow *cow, int (*act)(struct cow *cow, uint32_t sector), uint32_t sector);

/* Whoever commits: writes a map sector from `staged`, without syncing it. */
int cow_commit_sector(struct cow *cow, uint32_t sector, bool warm);

/*
 * Checksums on disk (cow-heat.c).  Ahead of writing pages, after cow_sums_begin: of pages that the map has,
 * or of others.
 */
int cow_heat_rewrite(struct cow *cow, uint32_t sector);
void cow_heat_first(struct cow *cow, uint32_t sector);

/* Commits: whether the sector is to be marked as warm; it is durable; all of a flush is. */
bool cow_heat_mark(const struct cow *cow, uint32_t sector);
void cow_heat_committed(struct cow *cow, uint32_t sector);
int cow_heat_flushed(struct cow *cow);

/* An orderly end: all checksums count from now on. */
int cow_heat_end(struct cow *cow);

/* Opening: `words` is the map on disk; `ahead`: a dead process had set more in memory. */
int cow_heat_load(struct cow *cow, uint32_t sector, const uint64_t words[COW_SECTOR_WORDS], bool warm,
                  bool ahead);
int cow_check(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
              struct drafter_error *err);
int cow_verify(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
               struct drafter_error *err);

/* The operations table, for the descriptor and the tests. */
extern const struct drafter_storage_ops cow_ops;

#endif
