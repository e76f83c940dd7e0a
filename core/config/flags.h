/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Command lines of roles.  A flag is nothing of its own: it puts a value into the section that a file
 * would have it in, and the option tables take it from there.  So every key of the role's section and of
 * [drafter] is a flag by its name; a table adds the flags that stand for something else.
 */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include "config/config.h"
#include <stdio.h>

enum config_flag_form {
    CONFIG_FLAG_TEXT = 0, /* --name VALUE, --name=VALUE */
    CONFIG_FLAG_SWITCH,   /* --name, --name=no */
    CONFIG_FLAG_OBJECTS,  /* --name '[{"key": value, ...}, ...]': a section for each object */
};

struct config_flag {
    const char *name; /* without dashes; NULL ends a table */
    /*
     * Kind of the section that it fills.  Unless it is the role's, the section is that of the instance
     * which the role's key of this name chooses: "network" means [network:ID] of `network = ID`.
     */
    const char *kind;
    const char *key; /* in that section; of objects the member that is the section's id, NULL: a number */
    enum config_flag_form form;
    const char *default_value; /* where there is neither a file nor the flag; NULL: none */
    const char *plugin_default; /* what the plugin does without the key; for people who ask for help */
    const char *help;          /* one sentence, no full stop */
};

struct config_flags {
    const char *role;                     /* its section */
    const struct drafter_option *options; /* keys of that */
    const struct drafter_option *node;    /* keys of [drafter] */
    const struct config_flag *flags;      /* all others; may be NULL */
    const char *name;                     /* default of [drafter] name; NULL: that of its table */
};

/*
 * Puts `arguments` (NULL-terminated) into the configuration, over what a file says there: one or two
 * dashes, the value behind '=' or as the next argument, later ones win.  An empty value takes a key of the
 * role or of [drafter] away.  `--set SECTION.KEY=VALUE` reaches every other key.
 */
int config_set_flags(struct config *config, const struct config_flags *flags,
                     char *const *arguments, struct drafter_error *err);

/* Prints all flags with their defaults. */
void config_print_flags(const struct config_flags *flags, FILE *stream);

#endif
