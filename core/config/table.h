/* SPDX-License-Identifier: BSD-2-Clause */
/* Typed values of option tables; drafter/plugin.h documents the syntax. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#include <drafter/plugin.h>

/*
 * Parses `text` as the option says and stores it at its offset in `target`, a struct that
 * table_check found to be large enough.  A string is stored as the pointer it is.  On failure `err`
 * says what is wrong with the value, without the key and, for a secret, without the value.
 */
int table_store(const struct drafter_option *option, const char *text, void *target,
                struct drafter_error *err);

/* The option of this key, case and dashes aside, or NULL. */
const struct drafter_option *table_find(const struct drafter_option *table, const char *key);

/*
 * Checks a table itself (NULL is an empty one): key names, types, offsets within `size` bytes,
 * ranges, choices and that every default parses.
 */
int table_check(const struct drafter_option *table, size_t size, struct drafter_error *err);

/* "string", "size", ... */
const char *table_type_name(enum drafter_option_type type);

/* Writes a range, or the choices, in words an operator can use ("1 to 64", "yes|no"); "" for none.
 */
void table_describe_range(const struct drafter_option *option, char *buffer, size_t size);

/* The pieces, for command lines and tests; 0, -EINVAL (no such value) or -ERANGE (too large). */
int table_parse_bool(const char *text, bool *ret_value);
int table_parse_uint(const char *text, uint64_t *ret_value);
int table_parse_size(const char *text, uint64_t *ret_value);
int table_parse_duration(const char *text, uint64_t *ret_value);

#endif
