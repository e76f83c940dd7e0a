/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Settings of the host that pools need, such as forwarding, are written down in a file of the state
 * directory before they are changed, and set back when the last pool of that directory goes, unless
 * somebody else has changed them since.  The caller keeps other processes away from the file.
 */
#ifndef NETWORK_SYSCTL_H
#define NETWORK_SYSCTL_H

#include <drafter/network.h>

struct sysctl_journal {
    const char *directory; /* the state directory */
    const char *boot;      /* id of the host's boot */
    const uint64_t *netns; /* identity of the host's namespace */
};

/* `name` is a path below /proc/sys.  Does nothing where the value is there already. */
int sysctl_set(const struct sysctl_journal *journal, const char *name, const char *value,
               struct drafter_error *err);

/* The first line of a setting; false when it cannot be read. */
bool sysctl_get(const char *name, char *buffer, size_t size);

/* Sets back what all pools changed and removes the file. */
int sysctl_restore(const struct sysctl_journal *journal, struct drafter_error *err);

/* Reads the id of this boot; an empty string when there is none. */
void sysctl_boot_id(char *buffer, size_t size);

#endif
