/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Device plugins show a VMM the block devices that drafter serves: as files, as block nodes, or, for
 * `null`, only to the core itself.  One instance serves all devices of one VM below one directory.
 *
 * Guest RAM is a shared mapping of such a device.  So a page fault of the guest is a backend read, and
 * sync() is what brings the guest's writes to the backend.
 */
#ifndef DRAFTER_DEVICE_H
#define DRAFTER_DEVICE_H

#include <drafter/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where an exposure's bytes come from; the core fills it.  Calls may come from any number of threads
 * and may block until a missing block has arrived.  They return 0 or a negative errno, which the
 * exposure passes on to the VMM.  write() from a write-back of cached pages must not wait for memory
 * to be freed: the core does not allocate in it.
 */
struct drafter_device_backend {
    uint32_t struct_size;
    void *opaque;
    int (*read)(void *opaque, void *buffer, size_t length, uint64_t offset);
    int (*write)(void *opaque, const void *buffer, size_t length, uint64_t offset);
    int (*flush)(void *opaque);
    int (*trim)(void *opaque, uint64_t length, uint64_t offset);
    /*
     * Whether a read of the range would return without waiting for a missing block; never waits
     * itself.  Optional: NULL means that nothing is known.  Lets an exposure read ahead of a fault
     * while the device is sparse, but only what costs no round trip.
     */
    bool (*present)(void *opaque, uint64_t length, uint64_t offset);
};

#define DRAFTER_DEVICE_READONLY 0x1u
#define DRAFTER_DEVICE_MAPPED 0x2u /* will be mapped MAP_SHARED: reads and writes go through a cache */

/* The core has seen to what is said here before a plugin gets it. */
struct drafter_device_spec {
    uint32_t struct_size;
    const char *name; /* one path component of at most DRAFTER_NAME_MAX bytes, which begins with no dot */
    uint64_t size;    /* bytes, 1 to INT64_MAX */
    unsigned flags;
    struct drafter_device_backend backend; /* copied; all but `present` are set */
};

/* How far an exposed device is complete; steers readahead. */
enum drafter_device_hint {
    DRAFTER_DEVICE_SPARSE = 0,   /* blocks may be missing: a read may cost a round trip per block */
    DRAFTER_DEVICE_COMPLETE = 1, /* everything is local */
};

struct drafter_device_ops {
    /* Begins to serve below `directory`, which exists and is empty.  Mandatory. */
    int (*start)(void *instance, const char *directory, struct drafter_error *err);

    /* Shows a device; `path` receives the file or node that the VMM shall open.  Mandatory. */
    int (*expose)(void *instance, const struct drafter_device_spec *spec, char *path, size_t path_size,
                  void **ret_exposure, struct drafter_error *err);

    /*
     * Writes every dirty cached page to the backend and waits for it; nothing is flushed to stable
     * storage.  Pages dirtied while it runs may or may not be included.  Mandatory.
     */
    int (*sync)(void *exposure, struct drafter_error *err);

    /*
     * Sets a bit per DRAFTER_PAGE_SIZE page in `bitmap` (64-bit words, least significant bit first)
     * for each page that is dirty in the cache and not yet written to the backend; may say dirty for
     * clean, never the reverse once the VMM is paused.  Changes nothing.  Bits already set stay.
     * Mandatory.
     */
    int (*dirty)(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err);

    /* Reads what the VMM sees, dirty cached pages included.  Mandatory. */
    int (*read)(void *exposure, void *buffer, size_t length, uint64_t offset);

    /*
     * Drops clean cached pages of the range (length 0: to the end): they changed below.  May wait for
     * reads of the range that are in progress.  Mandatory.
     */
    int (*invalidate)(void *exposure, uint64_t offset, uint64_t length);

    /* Default: nothing. */
    void (*hint)(void *exposure, enum drafter_device_hint hint);

    /* Brings the range into the cache in large reads, where there is one.  Default: nothing. */
    int (*populate)(void *exposure, uint64_t offset, uint64_t length);

    /*
     * Takes a device away; whoever still holds it open gets errors.  Returns when no call is inside the
     * backend any more, so reads that wait for missing blocks have to be ended first.  Mandatory.
     */
    void (*withdraw)(void *exposure);

    /* Ends the service and unmounts; all exposures were withdrawn.  Mandatory. */
    void (*stop)(void *instance);

    /*
     * Removes what a killed process left below `directory` (a dead mount, a stuck device).  Without
     * an instance having been started.  Default: nothing to remove.
     */
    int (*reclaim)(void *instance, const char *directory, struct drafter_error *err);

    /*
     * Since 1.1.  In place of start(): takes over the service that a dead process left to the holder
     * (see struct drafter_keeper) with all its mounts or nodes.  Then come expose() of the same devices,
     * which gives each the path it had, and serve(), from which on requests are answered: those that
     * wait, and again those that the dead process had taken and not answered.  Between adopt() and
     * serve() no backend is called.  -ENOENT: nothing was left.  Default: cannot be adopted, and the
     * VM ends with its drafter.  Both or none.
     */
    int (*adopt)(void *instance, const char *directory, struct drafter_error *err);
    int (*serve)(void *instance, struct drafter_error *err);

    /*
     * Since 1.2.  Writes back what is dirty in the range, as sync() does for all, so that dirty() tells
     * whether it was written since.  Default: it cannot, and the order of a move's last pages is a guess.
     */
    int (*clean)(void *exposure, uint64_t offset, uint64_t length);
};

#ifdef __cplusplus
}
#endif

#endif
