/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storage plugins hold the bytes of one device: an array of `size` bytes.  One instance is one array.
 *
 * Reads and writes are whole: they transfer everything or fail.  Offsets and lengths are multiples of
 * 512 bytes except at the end of an array whose size is not.  The core never goes beyond size(); a
 * plugin checks it all the same and answers -EINVAL.  Any thread, in parallel; two writes of one byte
 * at one time leave either.
 *
 * Integrity: -EBADMSG from pread() means that what the medium holds is not what was written there.
 *
 * Durability: what was written before flush() was called is on stable storage when it returns 0.
 * After a failed flush every later flush of this instance fails too (the kernel may have dropped the
 * pages): a failed fsync never becomes an acknowledgement.
 */
#ifndef DRAFTER_STORAGE_H
#define DRAFTER_STORAGE_H

#include <drafter/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DRAFTER_STORAGE_READONLY 0x1u /* pwrite, zero and trim answer -EROFS */
#define DRAFTER_STORAGE_CREATE 0x2u   /* create or enlarge with zeros to the size given, if it is not 0 */
#define DRAFTER_STORAGE_ARRIVING 0x4u /* since 1.2: the device comes from a peer; see settled() */
#define DRAFTER_STORAGE_GOES_ON 0x8u  /* since 1.2: with ARRIVING; an earlier process stored part of it */

enum drafter_extent_kind {
    DRAFTER_EXTENT_DATA = 0,
    DRAFTER_EXTENT_ZERO = 1, /* reads as zeros and takes no space */
};

struct drafter_storage_ops {
    /*
     * Makes the array ready.  With DRAFTER_STORAGE_CREATE it has at least `size` bytes afterwards; else
     * `size` 0 takes what is there and anything else must match.  Mandatory.
     */
    int (*open)(void *instance, uint64_t size, unsigned flags, struct drafter_error *err);

    uint64_t (*size)(void *instance);                                              /* mandatory */
    int (*pread)(void *instance, void *buffer, size_t length, uint64_t offset);        /* mandatory */
    int (*pwrite)(void *instance, const void *buffer, size_t length, uint64_t offset); /* mandatory */
    int (*flush)(void *instance);                                                  /* mandatory */

    /* Makes the range read as zeros, without storing them where it can.  Default: pwrite of zeros. */
    int (*zero)(void *instance, uint64_t length, uint64_t offset);

    /* The content of the range no longer matters.  Default: nothing. */
    int (*trim)(void *instance, uint64_t length, uint64_t offset);

    /*
     * What begins at `offset` and for how many bytes, at most `length`.  May say DATA for zeros, never
     * ZERO for data.  Default: all DATA.
     */
    int (*extent)(void *instance, uint64_t offset, uint64_t length, enum drafter_extent_kind *ret_kind,
                  uint64_t *ret_length);

    /*
     * Layers: sets *ret_own to whether the bytes at `offset` were written in this layer (or a layer
     * above its base) rather than read through from the base, and *ret_length to how long that holds.
     * Default: all own.
     */
    int (*layer)(void *instance, uint64_t offset, uint64_t length, bool *ret_own,
                 uint64_t *ret_length);

    /*
     * fsck: reads the metadata without changing anything and reports each defect through `report`;
     * returns the number of defects.  Instead of open().  Default: nothing to check.
     */
    int (*check)(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
                 struct drafter_error *err);

    /* Since 1.2.  As check(), and reads all data of which it knows what it must be.  Default: check(). */
    int (*verify)(void *instance, void (*report)(void *opaque, const char *line), void *opaque,
                  struct drafter_error *err);

    /*
     * Since 1.2.  BLAKE2b-128 of what a read of the range would give, if that is known without reading
     * it; -ENOENT otherwise.  Such a read may fail all the same (what is elsewhere may be gone), and then
     * nothing of the range is used.  For devices that arrive.  Default: nothing is known.
     */
    int (*digest)(void *instance, uint64_t offset, uint64_t length, uint8_t hash[16]);

    /*
     * Since 1.2.  A device that was opened with DRAFTER_STORAGE_ARRIVING is complete, and its VM is this
     * host's.  Default: nothing.
     */
    void (*settled)(void *instance);
};

/*
 * For layers (a storage over a storage): the instance in drafter_context.next; every operation is there.
 * A layer opens what is below in its own open(), as it needs it; if that is open already, nothing happens.
 * layer() answers -ENOTSUP when the storage below is no layer: it is the base then.
 */
DRAFTER_PUBLIC const struct drafter_storage_ops *drafter_next_storage(void *next, void **ret_instance);

/*
 * Since 1.2.  Whether the owner of a key may give packages to this node, by its trust file: 0, or -EACCES and the
 * reason.  For storage that knows who made what it holds; `identity` is as transports have them.
 */
DRAFTER_PUBLIC int drafter_trust_package(const char *identity, struct drafter_error *err);

#ifdef __cplusplus
}
#endif

#endif
