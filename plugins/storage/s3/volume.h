/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device in a bucket: blocks, an index of them, and a root, all below one prefix.
 *
 *     PREFIXroot                               the device's size, who writes it, the parts of the index
 *     PREFIXi/PART-SERIAL                      which object holds each of 1024 blocks
 *     PREFIXb/OFFSET-SERIAL                    a block
 *
 * Blocks and parts are never overwritten: a new version is a new object, and the old one is deleted when
 * no root needs it any more.  So the root alone decides what the device is, at one instant: what was put
 * since the last commit does not count, and an upload that was cut off leaves only objects that the next
 * writer sweeps away.  The root is written on condition that it is still the one that was read: of two
 * writers one is refused and told so.
 */
#ifndef S3_VOLUME_H
#define S3_VOLUME_H

#include "codec.h"
#include "http.h"
#include <pthread.h>

#define VOLUME_PART 1024u /* blocks */
#define VOLUME_WRITER 16

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "entries are stored as they are in memory");

/* Where a block is; serial 0: it is all zeros and nowhere. */
struct volume_entry {
    uint8_t hash[CODEC_HASH];
    uint64_t serial; /* random, so that no name is ever used twice; upper half: the writer's session */
};

struct volume_part {
    struct volume_entry entries[VOLUME_PART];
    bool changed; /* since the last commit */
};

struct volume_object { /* that no longer counts */
    char kind;         /* 'b' or 'i' */
    uint64_t place;
    struct volume_entry entry;
};

struct volume {
    struct http *http;
    struct pool *pool; /* set after volume_init; NULL: objects are deleted one by one */
    struct codec codec;
    char base[1400]; /* "/BUCKET/PREFIX", encoded */
    char bucket_path[200], prefix[300]; /* "/BUCKET", and the prefix as it is */
    uint64_t size, blocks;
    uint32_t block_size;
    uint32_t session; /* upper half of the serials that this process gives */

    pthread_mutex_t commit; /* taken before `lock`; the fields of the root */
    uint8_t writer[VOLUME_WRITER];
    uint64_t generation;
    char etag[HTTP_ETAG_MAX]; /* of the root; empty: there is none */
    bool unconditional;       /* the server does not know conditions */
    bool bare_etag;           /* it compares ETags with If-Match without their quotes */
    bool committed;           /* the root is this writer's ... */
    uint64_t committed_size;  /* ... and says so */

    pthread_mutex_t lock; /* not held across I/O, but for reading a part */
    struct volume_part **parts;        /* NULL: not read yet */
    struct volume_entry *part_entries; /* of the last root */
    uint32_t part_count;
    struct volume_object *garbage;
    size_t garbage_count, garbage_room;
};

/* Borrows `http`; copies the rest. */
int volume_init(struct volume *volume, struct http *http, const struct codec *codec,
                const char *bucket, const char *prefix, struct drafter_error *err);
void volume_release(struct volume *volume);

/* Reads the root; -ENOENT: there is no device. */
int volume_load(struct volume *volume, struct drafter_error *err);

/* There was none: an empty device, which exists from the first commit on. */
int volume_make(struct volume *volume, uint64_t size, uint32_t block_size, struct drafter_error *err);

/* Makes it larger. */
int volume_enlarge(struct volume *volume, uint64_t size, struct drafter_error *err);

/* Where the block is now. */
int volume_find(struct volume *volume, uint64_t block, struct volume_entry *ret_entry);

/* The block's bytes in the device: block_size, less at its end. */
size_t volume_length(const struct volume *volume, uint64_t block);

/* Reads and verifies a block; -EBADMSG: what is there is not what was put. */
int volume_get(struct volume *volume, uint64_t block, void *content);

/* The same from an entry that somebody else's index had. */
int volume_fetch(struct volume *volume, uint64_t block, const struct volume_entry *entry, void *content);

/* A block ready to be sent, so that its content may change meanwhile. */
struct volume_upload {
    uint64_t block;
    struct volume_entry entry;
    void *object; /* NULL: nothing needs to be sent */
    size_t length;
    bool same; /* it is there already */
};
int volume_prepare(struct volume *volume, uint64_t block, const void *content,
                   struct volume_upload *ret_upload);
/* Sends it and notes it in the index; ends the upload in any case. */
int volume_send(struct volume *volume, struct volume_upload *upload);

/*
 * Makes all that was sent the device; asks nobody if nothing changed.  -ESTALE: another writer took over,
 * for good.  Any thread, one at a time.
 */
int volume_commit(struct volume *volume, struct drafter_error *err);

/* Deletes what an earlier writer left and no root needs; stops when another writer takes over. */
int volume_sweep(struct volume *volume, unsigned *ret_deleted, struct drafter_error *err);

/* For commit and sweep: an object's encoded path; kind 'b', 'i' or, without an entry, the root. */
int volume_path(const struct volume *volume, char kind, uint64_t place,
                const struct volume_entry *entry, char *path, size_t size);
int volume_put(struct volume *volume, char kind, uint64_t place, const struct volume_entry *entry,
               const void *object, size_t length);
/* Several at a time; returns how many are gone. */
size_t volume_delete_all(struct volume *volume, const struct volume_object *objects, size_t count);
int volume_discard(struct volume *volume, char kind, uint64_t place, const struct volume_entry *entry);

/* Is `entry` what the last committed or the current index has there? */
bool volume_uses(struct volume *volume, const struct volume_object *object);

/* 0: the root is still the one that this writer wrote or read; -ESTALE: it is somebody else's. */
int volume_check_root(struct volume *volume);

#endif
