/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter check`: finds every fault of a configuration and of the host before anything starts, and
 * changes nothing.  Roles add what only they know through check_roles.
 */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/config.h"

struct check; /* one run */

enum check_level { CHECK_OK, CHECK_WARNING, CHECK_ERROR };

/* Adds a finding; `remedy` may be NULL.  One line each. */
void check_add(struct check *check, enum check_level level, const char *what, const char *remedy,
               const char *format, ...) DRAFTER_PRINTF(5, 6);

/* Adds each message of a report as an error and empties it. */
void check_add_report(struct check *check, const char *what, struct config_report *report);

/*
 * Loads the plugin that the section names, else `fallback`, applies its option table to the section
 * (NULL: the defaults) and asks its probe.  Keys in `also` (may be NULL) are the caller's.  Findings
 * go to `check`; a fault is an error where `needed`, else a warning.
 */
void check_plugin(struct check *check, enum drafter_kind kind, const struct config_section *section,
                  const char *fallback, const char *const *also, bool needed);

/* As config_apply_all, the faults going to `check`: returns whether there were none. */
bool check_apply(struct check *check, const struct config_section *section,
                 const struct drafter_option *table, const char *const *also, void *target,
                 size_t size);

/* What a role knows about its part of the configuration. */
struct check_role {
    const char *section; /* kind of the section that makes a configuration one of this role */
    const char *const *sections; /* further kinds that the role reads; NULL-terminated, or NULL */
    void (*run)(struct check *check, const struct config *config,
                const struct config_section *section);
};

/* All roles; an entry without section ends the table.  In check-roles.c. */
extern const struct check_role check_roles[];

/* check-plugins.c: all sections of plugins, and the default plugins that no section names. */
void check_plugins(struct check *check, const struct config *config);
extern const char *const check_plugin_sections[]; /* NULL-terminated */

#endif
