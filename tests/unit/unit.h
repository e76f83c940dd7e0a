/* SPDX-License-Identifier: BSD-2-Clause */
/* What every unit test program needs besides Check. */
#ifndef UNIT_H
#define UNIT_H

#include "util/cleanup.h"
#include "util/io.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fresh directory; unit_drop_directory() removes it. */
static inline char *unit_make_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;

    ck_assert_int_gt(asprintf(&path, "%s/drafter-unit.XXXXXX", base ? base : "/tmp"), 0);
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}

static inline void unit_drop_directory(char *path)
{
    ck_assert_int_eq(io_remove_tree(path, NULL), 0);
    free(path);
}

/* "directory/name"; the caller frees it. */
static inline char *unit_path(const char *directory, const char *name)
{
    char *path = NULL;

    ck_assert_int_gt(asprintf(&path, "%s/%s", directory, name), 0);
    return path;
}

/* Runs one suite of one case; each test is a process of its own. */
static inline int unit_run(const char *name, void (*add_tests)(TCase *))
{
    Suite *suite = suite_create(name);
    TCase *tests = tcase_create(name);
    SRunner *runner;
    int failed;

    tcase_set_timeout(tests, 30);
    add_tests(tests);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
