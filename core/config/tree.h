/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of a configuration, for the files of this directory. */
#ifndef CONFIG_TREE_H
#define CONFIG_TREE_H

#include "config/config.h"

#define CONFIG_SECTIONS_MAX 4096
#define CONFIG_ENTRIES_MAX 1024

struct config {
    char *origin;
    bool from_file; /* lines mean something; a value of line 0 was set by the command line */
    struct config_section **sections; /* in file order; pointers, because callers keep them */
    size_t section_count;
};

/* Appends a section; -ENOSPC beyond the maximum. */
int config_add_section(struct config *config, const char *kind, const char *id, unsigned line,
                       struct config_section **ret_section);

/* Appends an entry; the strings are copied.  -ENOSPC beyond the maximum. */
int config_add_entry(struct config_section *section, const char *key, const char *value,
                     unsigned line);

/* The entry of this key, case and dashes aside, or NULL. */
struct config_entry *config_find_entry(const struct config_section *section, const char *key);

/* "[kind:id]" as far as it fits. */
void config_section_title(const struct config_section *section, char *buffer, size_t size);

/* The nearest key of the table or of the list `also`, or NULL when none is near. */
const char *config_nearest_key(const struct drafter_option *table, const char *const *also,
                               const char *key);

/* Notes a fault in the report; keeps the first in `first` and returns its negative code. */
int config_fault(struct config_report *report, struct drafter_error *first,
                 const struct drafter_error *fault);

#endif
