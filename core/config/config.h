/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration: sections `[kind]` or `[kind:id]` of keys and values, each with its origin.
 * Keys match whatever their case and dashes ("block-size", "blocksize", "blockSize").
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <drafter/plugin.h>

struct config;

struct config_entry {
    char *key, *value;
    unsigned line; /* 0 for a value that did not come from the file */
    bool used;     /* an option table knew it, or config_value asked for it */
    bool secret;   /* an option table said so: never printed */
    bool faulty;   /* reported already: config_check_used says nothing more */
    bool warned;   /* that it has no effect */
};

struct config_section {
    const struct config *config;
    char *kind; /* "device" of [device:memory] */
    char *id;   /* "memory", or "" */
    unsigned line;
    bool used;   /* a table was applied to it or a value asked for */
    bool faulty; /* reported already, with all its keys */
    struct config_entry *entries;
    size_t entry_count;
};

/* All faults of a configuration, where the first is not enough.  Begins as {0}. */
struct config_report {
    char **messages;
    size_t count;
};

/* Adds a fault; a report that is NULL takes none. */
void config_report_add(struct config_report *report, const struct drafter_error *err);
void config_report_free(struct config_report *report);

/*
 * Reads an INI file with inih.  Refuses duplicate sections and keys, with file:line; keys are looked
 * at when a table is applied.
 */
int config_load(const char *path, struct config **ret_config, struct drafter_error *err);

/* As config_load, from memory; `origin` stands for the file name in messages. */
int config_parse(const char *text, size_t length, const char *origin, struct config **ret_config,
                 struct drafter_error *err);

/*
 * As config_load, and goes on after a fault: `report` receives every one, `err` the first.  The
 * configuration is given even when faults were found (then with a negative return), but for a file
 * that cannot be read, where it is NULL.
 */
int config_load_all(const char *path, struct config **ret_config, struct config_report *report,
                    struct drafter_error *err);

/* An empty configuration to be filled by config_set (command lines). */
struct config *config_new(const char *origin);
void config_free(struct config *config);

/* Adds or replaces one value, making the section when needed. */
int config_set(struct config *config, const char *kind, const char *id, const char *key,
               const char *value, struct drafter_error *err);

/* Takes a value away, as if nobody had said it. */
void config_unset(struct config *config, const char *kind, const char *id, const char *key);

/* The section or NULL; id "" for a plain one. */
struct config_section *config_section(const struct config *config, const char *kind, const char *id);

/* The sections in file order: the first of `kind` after `previous` (NULL: from the start), or NULL. */
struct config_section *config_next(const struct config *config, const char *kind,
                                   const struct config_section *previous);

/* The file, or what stands for it in messages. */
const char *config_origin(const struct config *config);

/* A value or NULL; the key then counts as known to every option table. */
const char *config_value(const struct config_section *section, const char *key);

/*
 * Fills `target`, a zeroed struct of `size` bytes, from the section by the option table: types,
 * ranges, defaults, required keys.  Unknown keys are refused with the nearest known one, unless
 * `also` (NULL-terminated, may be NULL) lists them.  A NULL section gives the defaults.  Strings
 * belong to the configuration.  Errors say file:line.
 */
int config_apply(const struct config_section *section, const struct drafter_option *table,
                 const char *const *also, void *target, size_t size, struct drafter_error *err);

/* As config_apply, and goes on after a fault: `report` receives every one, `err` the first. */
int config_apply_all(const struct config_section *section, const struct drafter_option *table,
                     const char *const *also, void *target, size_t size,
                     struct config_report *report, struct drafter_error *err);

/* Refuses sections whose kind is not in `kinds` (NULL-terminated), with the nearest valid one. */
int config_check_kinds(const struct config *config, const char *const *kinds,
                       struct drafter_error *err);
int config_check_kinds_all(const struct config *config, const char *const *kinds,
                           struct config_report *report, struct drafter_error *err);

/* Refuses sections and keys that nothing used; for the end, when everything was applied. */
int config_check_used(const struct config *config, struct config_report *report,
                      struct drafter_error *err);

/*
 * Prints the effective configuration as INI to a FILE; values of secret options as "(secret)", of
 * keys that no table has known yet as "(not used)", for they may be secret too.
 */
void config_print(const struct config *config, void *stream);

/*
 * "file:line" of a section or of a key in it, for messages.  In thread-local storage, which the fourth
 * call after this one overwrites.
 */
const char *config_where(const struct config_section *section, const char *key);

#endif
