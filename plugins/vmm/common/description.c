/* SPDX-License-Identifier: BSD-2-Clause */
#include "description.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool description_is_word(const char *text, const char *also, size_t max)
{
    size_t length = strlen(text);

    if (!length || length > max)
        return false;
    for (; *text; text++) {
        if (!isascii((unsigned char)*text) ||
            (!isalnum((unsigned char)*text) && !strchr(also, *text)))
            return false;
    }
    return true;
}

int description_word(const char *text, const char *also, char *word, size_t size)
{
    if (!description_is_word(text, also, size - 1))
        return -EINVAL;
    snprintf(word, size, "%s", text);
    return 0;
}

int description_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret_number)
{
    char *end;
    unsigned long long number;

    if (!isdigit((unsigned char)*text) || strlen(text) > 19)
        return -EINVAL;
    number = strtoull(text, &end, 10);
    if (*end || number < minimum || number > maximum)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

int description_choice(const char *text, const char *const *choices)
{
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0)
            return i;
    }
    return -EINVAL;
}

int description_parse(const char *text, const char *const *keys,
                      int (*set)(void *machine, int key, char *value), void *machine,
                      struct drafter_error *err)
{
    char copy[DESCRIPTION_MAX], *rest = copy;
    unsigned seen = 0;

    if (strlen(text) >= sizeof(copy))
        return drafter_error_set(err, EINVAL, "a monstrous description of the saved machine");
    memcpy(copy, text, strlen(text) + 1);
    while (rest) {
        char *value = strsep(&rest, " "), *name = strsep(&value, "=");
        int key = description_choice(name, keys);

        if (key < 0 || !value || seen & 1u << key)
            return drafter_error_set(err, EINVAL, "saved machine: \"%.32s\" is unknown or repeated",
                                     name);
        seen |= 1u << key;
        if (set(machine, key, value) < 0)
            return drafter_error_set(err, EINVAL, "saved machine: %s cannot be \"%.64s\"",
                                     keys[key], value);
    }
    for (int key = 0; keys[key]; key++) {
        if (!(seen & 1u << key))
            return drafter_error_set(err, EINVAL, "saved machine: %s is missing", keys[key]);
    }
    return 0;
}
