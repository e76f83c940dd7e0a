/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RELAY_TESTS_H
#define RELAY_TESTS_H

#include <check.h>

TCase *link_tests(void);
TCase *fault_tests(void);

#endif
