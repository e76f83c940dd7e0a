/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node: its configuration, its directories and its plugin instances, which are made when a role asks
 * for them and released in reverse.
 *
 * Plugin instances are the sections [transport:ID] [storage:ID] [network:ID] [vmm:ID] and, for device
 * plugins, [exposure:ID]; [device:NAME] sections are the VM's devices.
 */
#ifndef ROLE_NODE_H
#define ROLE_NODE_H

#include "config/config.h"
#include "holder/holder.h"
#include "plugin/plugin.h"

#define NODE_INSTANCES_MAX 512
#define NODE_LOCK "core/directory"

/* [drafter] */
struct node_options {
    const char *role, *name, *state_directory, *run_directory;
    const char *trust;
    int plain_transport; /* enum trust_plain */
    int log_format, log_level;
};

struct node {
    struct config *config;
    struct node_options options;
    char *directory; /* run-directory/NAME, private to this process */
    int lock;        /* on the directory */
    struct holder *holder; /* what outlives this process; adopted when the one before died with a VM */
    bool left; /* the holder has a VM that nobody went on with yet: this process ends nothing of it */
    struct instance *instances[NODE_INSTANCES_MAX];
    unsigned count;
};

extern const struct drafter_option node_option_table[];
extern const char *const node_section_kinds[]; /* NULL-terminated: every kind there may be */

/* Takes the configuration; also on failure. */
int node_open(struct config *config, struct node *node, struct drafter_error *err);

/* As node_open, beside a node of the same name that may run: for what only looks at things. */
int node_look(struct config *config, struct node *node, struct drafter_error *err);
void node_close(struct node *node);

/*
 * The instance that `[kind:id]` describes, made at its first use; without such a section, `id` is the
 * name of a plugin that runs on its defaults.
 */
int node_instance(struct node *node, enum drafter_kind kind, const char *id,
                  struct instance **ret_instance, struct drafter_error *err);

/* A further instance of a plugin, on its defaults, or what a section says, but for `overrides`. */
int node_make(struct node *node, enum drafter_kind kind, const char *plugin,
              const struct config_section *section,
              const char *const *overrides, const char *id, struct instance *next,
              struct instance **ret_instance, struct drafter_error *err);

#endif
