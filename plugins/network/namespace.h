/* SPDX-License-Identifier: BSD-2-Clause */
/* Named network namespaces as ip-netns(8) has them, and taps. */
#ifndef NETWORK_NAMESPACE_H
#define NETWORK_NAMESPACE_H

#include <drafter/network.h>

/* Makes /run/netns a mount of its own that others see changes of, if it is not, as ip(8) does. */
int namespace_prepare(struct drafter_error *err);

/*
 * Gives the calling thread a new namespace, and that the name `path`.  On failure the thread may be in
 * a namespace without a name.
 */
int namespace_create(const char *path, struct drafter_error *err);

/* Removes the name; the namespace goes with the last process in it.  0 also when there is none. */
int namespace_remove(const char *path, struct drafter_error *err);

/* Whether anything is at `path`, and whether that is a namespace. */
bool namespace_exists(const char *path);
bool namespace_valid(const char *path);

/* The thread's own, to come back with namespace_enter; -1 and errno. */
int namespace_open_own(void);
int namespace_enter(int fd);

/* Device and inode of a namespace. */
int namespace_identity(int fd, uint64_t ret_identity[2]);

/* A persistent tap in the thread's namespace, fit for QEMU and Firecracker (vnet header). */
int tap_create(const char *name, struct drafter_error *err);

#endif
