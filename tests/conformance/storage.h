/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the storage conformance program share. */
#ifndef CONFORMANCE_STORAGE_H
#define CONFORMANCE_STORAGE_H

#include "conformance.h"
#include "plugin/storage.h"
#include <stdio.h>

#define PAGE DRAFTER_PAGE_SIZE

/* A storage and what it stands on, lowest first. */
struct stack {
    struct instance *levels[3];
    unsigned count;
    struct instance *top;
};

/* One instance over `next`; fails the test when it cannot be made. */
struct instance *storage_make(const char *plugin, const char *const *overrides, struct instance *next);

/* As storage_open, which must work. */
void storage_must_open(struct instance *storage, uint64_t size, unsigned flags);

/* A file with the pattern that conformance_fill makes for `seed`. */
void storage_write_file(const char *path, uint64_t seed, uint64_t size);

/* Changes `length` bytes of a file; with `data` NULL flips them. */
void storage_damage(const char *path, const void *data, size_t length, uint64_t offset);

/* `file` over `path`, opened read-only. */
struct instance *storage_base(const char *path);

/* `cow` over an open base: the files are NAME.overlay and NAME.state.  Not opened. */
struct instance *storage_cow(struct instance *base, const char *name);

/*
 * A server for the s3 plugin: tests/s3/server.py, a child of this program that ends with it.  False, with
 * a line that says why, when it cannot be started.
 */
bool storage_s3_start(void);

/* Forgets all objects, faults and options of the server, if there is one. */
void storage_s3_clear(void);

/* `s3` at the prefix NAME/, over `next` if that is not NULL; `more`: further options.  Not opened. */
struct instance *storage_s3(struct instance *next, const char *name, const char *const *more);

TCase *storage_s3_case(void);
TCase *storage_s3_object_case(void);
TCase *storage_cow_case(void);
TCase *storage_file_case(void);
TCase *storage_package_case(void);

#endif
