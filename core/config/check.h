/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter check`: finds every fault of a configuration and of the host before anything starts, and
 * changes nothing.  A role says what only it knows in check-roles.c.
 */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/config.h"
#include "migrate/ledger.h"

struct check; /* one run */

enum check_level { CHECK_OK, CHECK_WARNING, CHECK_ERROR };

/* Adds a finding; `remedy` may be NULL.  One line each. */
void check_add(struct check *check, enum check_level level, const char *what, const char *remedy,
               const char *format, ...) DRAFTER_PRINTF(5, 6);

/* Whether an error was found. */
bool check_failed(const struct check *check);

/* Some transport knows its peers, and lets in only those of the trust file. */
void check_need_trust(struct check *check);
bool check_needs_trust(const struct check *check);

/* Adds each message of a report as an error and empties it. */
void check_add_report(struct check *check, const char *what, struct config_report *report);

/*
 * Loads the plugin that the section names, else `fallback`, applies its option table to the section
 * (NULL: the defaults) and asks its probe.  Keys in `also` (may be NULL) are the caller's. Findings
 * go to `check`; a fault is an error where `needed`, else a warning.
 */
void check_plugin(struct check *check, enum drafter_kind kind, const struct config_section *section,
                  const char *fallback, const char *const *also, bool needed);

/* As config_apply_all, the faults going to `check`: returns whether there were none. */
bool check_apply(struct check *check, const struct config_section *section,
                 const struct drafter_option *table, const char *const *also, void *target,
                 size_t size);

/*
 * The instance that `[kind:id]` describes was checked by check_plugins; without such a section `id`
 * is the name of a plugin, which is checked on its defaults.
 */
void check_reference(struct check *check, const struct config *config, enum drafter_kind kind,
                     const char *id, bool needed);

/* check-plugins.c: all sections of plugins. */
void check_plugins(struct check *check, const struct config *config);

/* check-node.c: name and directories. */
struct node_options;
void check_node(struct check *check, const struct node_options *options);

/* What the ledger says of the VM, and whether it is in use; a finding where that stands in the way. */
enum ledger_state check_ledger(struct check *check, const struct node_options *options,
                               bool arriving, bool *ret_busy);

/* What a role does with its devices. */
enum check_use {
    CHECK_USE_START,    /* a VM from files */
    CHECK_USE_ARRIVE,   /* receives into them */
    CHECK_USE_SERVE,    /* hands out copies: only reads */
    CHECK_USE_SNAPSHOT, /* reads input, makes output */
    CHECK_USE_PACK,     /* reads path */
    CHECK_USE_EXTRACT,  /* makes path */
    CHECK_USE_SEND,     /* the package as it is: looks at no device */
    CHECK_USE_MOUNT,    /* as to start a VM, but for the VM */
    CHECK_USE_BACKUP,   /* makes output */
};

struct node;
struct check_devices {
    struct check *check;
    struct node *node; /* its configuration; instances are made in it and freed again */
    enum check_use use;
    const char *vmm; /* id of the role's VMM, or NULL */
    bool listening;  /* peers may take the VM over */
    bool overwrite;  /* what arrives may replace what is there */
};

/* check-devices.c: all [device:NAME] sections and the package they make up. */
void check_devices(struct check_devices *all);

/* check-roles.c: [drafter], the section of the role and the plugins it uses, the devices. */
void check_roles(struct check *check, const struct config *config);

#endif
