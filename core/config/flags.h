/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Command lines of roles.  A flag is nothing of its own: it puts a value into the section that a file
 * would have it in, and the option tables take it from there.  So every key of the role's section and of
 * [drafter] is a flag by its name; a table adds the flags that stand for something else.
 */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include "config/config.h"

enum config_flag_form {
    CONFIG_FLAG_TEXT = 0, /* --name VALUE, --name=VALUE */
    CONFIG_FLAG_SWITCH,   /* --name, --name=no */
    CONFIG_FLAG_OBJECTS,  /* --name '[{"key": value, ...}, ...]': a section for each object */
};

/*
 * Command lines that say the same in ways that exclude each other: one address for all devices, or an address
 * and a path for each.  A default of either counts only on a line of its kind.
 */
enum config_flag_model {
    CONFIG_FLAG_ANY = 0,
    CONFIG_FLAG_WHOLE, /* --raddr, --laddr, --devices */
    CONFIG_FLAG_PARTS, /* --state-raddr, --state-path, ... */
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
    const char *id;            /* of the section, where the flag means one of many: [kind:id] */
    enum config_flag_model model;
    const char *value;   /* of a switch: what the key gets when it is on; off, the key stays as it is */
    const char *unit;    /* of a number that is given without one */
    const char *ignored; /* the flag has no key: it is accepted with a warning, and this is why */
};

/* Finds the option table of a plugin by its kind and name; NULL: there is no such plugin. */
typedef const struct drafter_option *config_plugin_fn(void *opaque, const char *kind,
                                                      const char *plugin);

struct config_flags {
    const char *role;                     /* its section */
    const struct drafter_option *options; /* keys of that */
    const struct drafter_option *node;    /* keys of [drafter] */
    const struct config_flag *flags;      /* all others; may be NULL */
    const char *name;                     /* default of [drafter] name; NULL: that of its table */
    /*
     * Kind of the plugin whose options are flags, too, as that of the instance which the role's key of this
     * name chooses; NULL: there is none.
     */
    const char *plugin_kind;
    config_plugin_fn *plugin_options;
    void *opaque;
    enum config_flag_model bare; /* of a line that has no flag of either */
};

/*
 * Puts `arguments` (NULL-terminated) into the configuration, over what a file says there: one or two
 * dashes, the value behind '=' or as the next argument, later ones win.  An empty value takes a key of the
 * role or of [drafter] away.  `--set SECTION.KEY=VALUE` reaches every other key.
 */
int config_set_flags(struct config *config, const struct config_flags *flags,
                     char *const *arguments, struct drafter_error *err);

/* A flag as people see it; what is NULL there is none of. */
struct config_shown {
    const char *name, *type, *default_value, *help;
    bool is_switch;
};
typedef void config_flag_fn(void *opaque, const struct config_shown *flag);

/* Shows all flags but those of the plugin; those of the default plugin, whose name is returned or NULL. */
void config_show_flags(const struct config_flags *flags, config_flag_fn *show, void *opaque);
const char *config_show_plugin_flags(const struct config_flags *flags, config_flag_fn *show,
                                     void *opaque);

#endif
