/* SPDX-License-Identifier: BSD-2-Clause */
#include "xml.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    char character;
} entities[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};

/* One character of text, perhaps written as an entity; returns how many bytes it took, 0: bad. */
static size_t character(const char *at, size_t length, char *ret)
{
    *ret = *at;
    if (*at != '&')
        return 1;
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
        size_t n = strlen(entities[i].name);

        if (n <= length && memcmp(at, entities[i].name, n) == 0) {
            *ret = entities[i].character;
            return n;
        }
    }
    if (length > 4 && at[1] == '#') { /* only bytes; names of ours are ASCII */
        const char *end = memchr(at, ';', length < 8 ? length : 8);
        char number[8] = "";
        long value;

        if (!end)
            return 0;
        memcpy(number, at + 2, (size_t)(end - at - 2));
        value = number[0] == 'x' ? strtol(number + 1, NULL, 16) : strtol(number, NULL, 10);
        *ret = (char)value;
        return value > 0 && value < 128 ? (size_t)(end - at) + 1 : 0;
    }
    return 0;
}

static bool copy_text(const char *from, size_t length, char *text, size_t size)
{
    size_t n = 0;

    while (length > 0) {
        size_t used = n + 1 < size ? character(from, length, &text[n]) : 0;

        if (used == 0)
            return false;
        from += used;
        length -= used;
        n++;
    }
    text[n] = '\0';
    return true;
}

bool xml_find(const char *xml, size_t length, const char *name, char *text, size_t size,
              const char **ret_rest)
{
    char open[66], close[66];
    const char *end = xml + length, *from, *to;
    int open_length = snprintf(open, sizeof open, "<%s>", name);
    int close_length = snprintf(close, sizeof close, "</%s>", name);

    if (size == 0 || open_length < 0 || (size_t)close_length >= sizeof close)
        return false;
    from = memmem(xml, length, open, (size_t)open_length);
    if (!from)
        return false;
    from += open_length;
    to = memmem(from, (size_t)(end - from), close, (size_t)close_length);
    if (!to)
        return false;
    if (ret_rest)
        *ret_rest = to + close_length;
    return copy_text(from, (size_t)(to - from), text, size);
}

bool xml_text(const char *xml, size_t length, const char *name, char *text, size_t size)
{
    return xml_find(xml, length, name, text, size, NULL);
}
