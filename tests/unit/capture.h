/* SPDX-License-Identifier: BSD-2-Clause */
/* What a command of the program printed. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include "unit.h"

struct run {
    int ret;
    char *output;
    struct drafter_error err;
};

/* Standard output goes to a file meanwhile. */
static inline int capture_begin(void)
{
    FILE *file = tmpfile();
    int saved = dup(STDOUT_FILENO);

    fflush(stdout);
    ck_assert_int_ge(dup2(fileno(file), STDOUT_FILENO), 0);
    fclose(file);
    return saved;
}

static inline char *capture_end(int saved)
{
    char *output = calloc(1, 1 << 17);

    fflush(stdout);
    ck_assert_int_ge(pread(STDOUT_FILENO, output, (1 << 17) - 1, 0), 0);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    return output;
}

#define ck_assert_has(text_, part_)                                                                \
    ck_assert_msg(strstr(text_, part_) != NULL, "no \"%s\" in:\n%s", part_, text_)
#define ck_assert_hasnt(text_, part_)                                                              \
    ck_assert_msg(strstr(text_, part_) == NULL, "\"%s\" in:\n%s", part_, text_)

#endif
