/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Libraries that few need and that bring many others with them.  They are loaded when they are first used, as a VM's
 * start would wait for the linker otherwise.
 */
#ifndef UTIL_LATE_H
#define UTIL_LATE_H

#include <drafter/common.h>

struct late_symbol {
    const char *name;
    void *slot; /* a pointer to a function, which is filled in */
};

/* Loads the library for the rest of the process.  -ELIBACC, and a line that names what lacks. */
int late_load(const char *soname, const struct late_symbol *symbols, size_t count, struct drafter_error *err);

#endif
