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

TCase *storage_cow_case(void);
TCase *storage_file_case(void);
TCase *storage_package_case(void);

#endif
