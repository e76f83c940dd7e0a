/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/words.h"

#include <string.h>

#define BLANKS " \t"

/* The word at `index`, or NULL. */
static const char *find(const char *list, size_t index, size_t *ret_length)
{
    const char *at = list ? list + strspn(list, BLANKS) : "";

    for (; *at; at += strspn(at, BLANKS)) {
        *ret_length = strcspn(at, BLANKS);
        if (index-- == 0)
            return at;
        at += *ret_length;
    }
    return NULL;
}

size_t words_count(const char *list)
{
    size_t count = 0, length;

    while (find(list, count, &length))
        count++;
    return count;
}

bool words_get(const char *list, size_t index, char *buffer, size_t size)
{
    size_t length;
    const char *word = find(list, index, &length);

    if (!word || length >= size)
        return false;
    memcpy(buffer, word, length);
    buffer[length] = '\0';
    return true;
}

bool words_contain(const char *list, const char *word)
{
    size_t length;
    const char *at;

    for (size_t i = 0; (at = find(list, i, &length)); i++)
        if (strlen(word) == length && !memcmp(at, word, length))
            return true;
    return false;
}
