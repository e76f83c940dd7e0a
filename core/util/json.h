/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON values: scope-bound release, and their text. */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

#include <jansson.h>
#include <stdlib.h>

static inline void cleanup_json_(json_t **json)
{
    json_decref(*json);
}

#define cleanup_json __attribute__((cleanup(cleanup_json_)))

/* Jansson does not lack memory from here on; see json-reserve.c.  From main, ahead of all JSON. */
void json_use_reserve(void);

/*
 * The text of a value, to be freed by the caller; NULL without memory.  In place of json_dumps, which (Jansson 2.14)
 * leaves out a key when there is no memory for it, and says nothing of it.
 */
static inline char *json_text(const json_t *value, size_t flags)
{
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *text = length ? malloc(length + 1) : NULL;

    if (text && json_dumpb(value, text, length, flags) == length) {
        text[length] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

#endif
