/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/suggest.h"

#include <string.h>

#define LENGTH_MAX 64

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The letters that count; the length, or LENGTH_MAX + 1 when there are more. */
static unsigned normalise(const char *name, char *buffer)
{
    unsigned length = 0;

    for (; *name; name++) {
        if (*name == '-' || *name == '_')
            continue;
        if (length == LENGTH_MAX)
            return LENGTH_MAX + 1;
        buffer[length++] = fold(*name);
    }
    return length;
}

static unsigned min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned suggest_distance(const char *a, const char *b)
{
    /* Rows of the classic table: the row above the last, the last, the current. */
    unsigned rows[3][LENGTH_MAX + 1];
    char from[LENGTH_MAX], to[LENGTH_MAX];
    unsigned from_length = normalise(a, from), to_length = normalise(b, to);

    if (from_length > LENGTH_MAX || to_length > LENGTH_MAX)
        return LENGTH_MAX + 1;
    for (unsigned j = 0; j <= to_length; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= from_length; i++) {
        unsigned *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = i;
        for (unsigned j = 1; j <= to_length; j++) {
            row[j] = min(min(last[j], row[j - 1]) + 1, last[j - 1] + (from[i - 1] != to[j - 1]));
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1])
                row[j] = min(row[j], before[j - 2] + 1);
        }
    }
    return rows[from_length % 3][to_length];
}

unsigned suggest_limit(const char *name)
{
    return 1 + min((unsigned)strnlen(name, LENGTH_MAX), LENGTH_MAX) / 4;
}

int suggest_same(const char *a, const char *b)
{
    for (;;) {
        while (*a == '-' || *a == '_')
            a++;
        while (*b == '-' || *b == '_')
            b++;
        if (fold(*a) != fold(*b))
            return 0;
        if (!*a)
            return 1;
        a++;
        b++;
    }
}

int suggest_has_letters(const char *name)
{
    return name[strspn(name, "-_")] != '\0';
}

const char *suggest_nearest(const char *name, const char *const *names, unsigned count)
{
    unsigned best = suggest_limit(name) + 1;
    const char *nearest = NULL;

    for (unsigned i = 0; i < count; i++) {
        unsigned distance = suggest_distance(name, names[i]);

        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}
