/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a restore must know of the machine that was booted, as text: KEY=VALUE, with blanks between.
 *
 * The text travels in packages made elsewhere, so it is parsed as hostile input: each key exactly once,
 * none unknown, values bounded and of a small alphabet.
 */
#ifndef VMM_DESCRIPTION_H
#define VMM_DESCRIPTION_H

#include <drafter/common.h>

#define DESCRIPTION_MAX 2048 /* with its end */

/* ASCII letters, digits and what is in `also`: at least one of them and `max` at the most. */
bool description_is_word(const char *text, const char *also, size_t max);

/* These set what a value says: 0 or -EINVAL. */
int description_word(const char *text, const char *also, char *word, size_t size);
int description_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret_number);

/* The index of a word in a list that ends with NULL, or -EINVAL. */
int description_choice(const char *text, const char *const *choices);

/*
 * Calls `set` for each of the keys, a list that ends with NULL and has at most 32, with the key's index
 * and a value that it may change; what it refuses with a negative result is refused.
 */
int description_parse(const char *text, const char *const *keys,
                      int (*set)(void *machine, int key, char *value), void *machine,
                      struct drafter_error *err);

#endif
