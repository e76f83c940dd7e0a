/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directory in which Firecracker works.  The state that it saves has the names of its files and
 * sockets in it, so they are the same on every host: relative to this directory, a device is found
 * under its name.
 *
 *     without jailer   VMDIR/root, Firecracker's working directory; devices are symbolic links
 *     with jailer      BASE/PROGRAM/ID/root, its root; files are bound there, block devices get a node
 *
 * ID follows from the VM's directory, so that a later start finds, ends and removes what a killed
 * drafter left.
 */
#ifndef FIRECRACKER_JAIL_H
#define FIRECRACKER_JAIL_H

#include <drafter/vmm.h>
#include <sys/types.h>

struct jail {
    char *root;   /* NULL: there is none */
    char *parent; /* what is removed at the end */
    char id[64];
    bool jailed;
    uid_t uid; /* whose the files are */
    gid_t gid;
};

/*
 * Names the directory; `program` is a path, `base` that of the jails or NULL: without jailer.  Nothing is
 * touched yet.
 */
int jail_init(struct jail *jail, const char *vm_directory, const char *base, const char *program,
              struct drafter_error *err);

/* Makes the directory, empty, in place of one that was left. */
int jail_make(struct jail *jail, struct drafter_error *err);

/* Shows the file or block device `path` as `name`. */
int jail_place(const struct jail *jail, const char *name, const char *path,
               struct drafter_error *err);

/* The process that works in it, for a later sweep. */
int jail_note(const struct jail *jail, pid_t pid, struct drafter_error *err);

/* Gives a file or socket in it to the user whom Firecracker runs as. */
int jail_give(const struct jail *jail, const char *name, struct drafter_error *err);

/* Path of a file in it; the caller frees it.  NULL: no memory. */
char *jail_path(const struct jail *jail, const char *name);

/* Removes it; only once nobody works in it. */
void jail_remove(struct jail *jail);

/* Forgets it without a change. */
void jail_release(struct jail *jail);

#endif
