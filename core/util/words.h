/* SPDX-License-Identifier: BSD-2-Clause */
/* Lists of words that are separated by blanks. */
#ifndef UTIL_WORDS_H
#define UTIL_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* How many words there are; NULL has none. */
size_t words_count(const char *list);

/* Copies the word at `index`; false: there is none, or it does not fit. */
bool words_get(const char *list, size_t index, char *buffer, size_t size);

/* Whether the word is in the list. */
bool words_contain(const char *list, const char *word);

#endif
