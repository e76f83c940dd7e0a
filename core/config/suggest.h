/* SPDX-License-Identifier: BSD-2-Clause */
/* "Did you mean ...?": the nearest of some names. */
#ifndef CONFIG_SUGGEST_H
#define CONFIG_SUGGEST_H

/*
 * Insertions, deletions, replacements and swaps of neighbours that make one name of the other,
 * letter case and dashes aside.  Names beyond 64 characters count as entirely different.
 */
unsigned suggest_distance(const char *a, const char *b);

/* The largest distance at which a name is still worth suggesting. */
unsigned suggest_limit(const char *name);

/* Whether two names are the same but for letter case, dashes and underscores. */
int suggest_same(const char *a, const char *b);

/* Whether anything is left of a name without its dashes and underscores. */
int suggest_has_letters(const char *name);

/* The nearest of `count` names, or NULL when none is near. */
const char *suggest_nearest(const char *name, const char *const *names, unsigned count);

#endif
