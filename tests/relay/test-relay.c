/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdlib.h>

#include "tests.h"

int main(void)
{
    Suite *suite = suite_create("relay");
    SRunner *runner;
    int failed;

    suite_add_tcase(suite, link_tests());
    suite_add_tcase(suite, fault_tests());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
