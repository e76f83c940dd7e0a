/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storage in S3, in one of three forms:
 *
 *     a device in a bucket      bucket.c    blocks below a prefix, cached in memory          over volume.h
 *     an object                 object.c    read by ranges; written once, see multipart.h    over http.h
 *     a layer                   sync.c      over a local storage, copied to a bucket         over volume.h
 *
 * The form's operations get the instance; s3.c has options and life.
 */
#ifndef S3_S3_H
#define S3_S3_H

#include "cache.h"
#include "multipart.h"
#include "volume.h"
#include <drafter/storage.h>

struct s3_config {
    const char *endpoint, *bucket, *region, *prefix, *object;
    const char *credentials, *profile, *encryption_key, *ca_file;
    uint64_t part_size;
    bool replace;
    uint64_t block_size, cache_size, readahead, connections, timeout, compression;
    bool readonly;
    /* of the layer */
    bool only_dirty;
    uint64_t page_size, max_age, min_changed, limit, check_period, drain;
};

struct sync;

struct s3 {
    const struct s3_config *config;
    const struct s3_form *form;
    struct sign_credentials credentials;
    struct codec codec;
    struct http *http;
    struct pool *pool;
    struct volume volume;
    struct cache *cache; /* set by open; not of the layer */
    bool has_volume, opened, readonly;
    _Atomic int flush_error; /* the first; it stays */
    uint64_t size;

    /* object.c */
    char etag[HTTP_ETAG_MAX];
    char path[1600];
    struct multipart *upload; /* NULL: it is read */

    /* sync.c */
    const struct drafter_storage_ops *next;
    void *next_instance;
    struct sync *sync;
};

struct s3_form {
    int (*open)(struct s3 *s3, uint64_t size, unsigned flags, struct drafter_error *err);
    int (*pread)(struct s3 *s3, void *buffer, size_t length, uint64_t offset);
    int (*pwrite)(struct s3 *s3, const void *buffer, size_t length, uint64_t offset);
    int (*flush)(struct s3 *s3);
    int (*zero)(struct s3 *s3, uint64_t length, uint64_t offset);
    int (*trim)(struct s3 *s3, uint64_t length, uint64_t offset);
    int (*extent)(struct s3 *s3, uint64_t offset, uint64_t length, enum drafter_extent_kind *ret_kind,
                  uint64_t *ret_length);
    void (*close)(struct s3 *s3);
};

extern const struct s3_form s3_bucket, s3_object, s3_layer;

/*
 * Loads the device of the prefix; with `create`, one that is not there is made, one that is too small
 * becomes larger.  A writer commits at once: what another one does from here on fails.
 */
int s3_open_volume(struct s3 *s3, uint64_t size, bool create, bool write, struct drafter_error *err);

/* The operations of the layer that others do not have. */
int s3_layer_digest(struct s3 *s3, uint64_t offset, uint64_t length, uint8_t hash[CODEC_HASH]);
void s3_layer_settled(struct s3 *s3);

/* Removes what earlier writers left; in the background. */
void s3_sweep(struct s3 *s3);

#endif
