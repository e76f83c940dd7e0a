/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices with addresses of their own.  A VM has one source and leaves as a whole, so the addresses of its devices
 * are ways to one node: their lists become the addresses of the VM.
 */
#ifndef ROLE_PARTS_H
#define ROLE_PARTS_H

#include "role/devices.h"

struct parts {
    bool apart; /* some device has an address of its own */
    char *connect, *listen; /* lists of addresses, NULL: none */
    char *cache;  /* where devices are received that have no file */
    char *files[DEVICES_MAX]; /* there; NULL: the device has a file of its own */
};

/*
 * Reads what the devices say, refusing what cannot be done.  `connect` and `listen` are those of the role, which
 * exclude the devices'.  Devices that arrive and have no file get one in `cache`, a directory that is
 * made (copied; NULL: they are refused).
 */
int parts_read(struct parts *parts, struct devices *devices, const char *connect,
               const char *listen, const char *cache, struct drafter_error *err);

/* Whether the VM is to be forgotten when it ends here: what it is made of has no files to stay in. */
bool parts_are_passing(const struct parts *parts);

/* Removes the files in the cache. */
void parts_discard(struct parts *parts);
void parts_release(struct parts *parts);

#endif
