/* SPDX-License-Identifier: BSD-2-Clause */
/* Where plugin files are, and what they are called. */
#ifndef PLUGIN_SEARCH_H
#define PLUGIN_SEARCH_H

#include <drafter/plugin.h>

struct plugin;

/* Letters a-z, digits and dashes, at most DRAFTER_NAME_MAX. */
bool search_valid_name(const char *name);

/*
 * The file of a plugin: the first match along the search path; the caller frees it.  A missing one
 * is -ENOENT with the directories searched and the nearest name that exists.
 */
int search_file(enum drafter_kind kind, const char *name, char **ret_file,
                struct drafter_error *err);

/*
 * Calls `visit` for each file named like a plugin, in the order of the search path and by name
 * within a directory; a file hidden by one of an earlier directory is left out.  Stops at a
 * non-zero answer and returns it.
 */
int search_each(int (*visit)(void *opaque, const char *file, enum drafter_kind kind,
                             const char *name),
                void *opaque);

/* loader.c: as plugin_load with the file given; kind 0 and name NULL accept any. */
int plugin_load_file(const char *file, enum drafter_kind kind, const char *name,
                     struct plugin **ret_plugin, struct drafter_error *err);

#endif
