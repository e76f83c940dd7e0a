/* SPDX-License-Identifier: BSD-2-Clause */
/* The text of a JSON value is all of it, or none: whatever allocation fails. */
#include "unit.h"

#include "util/json.h"

#include <string.h>

static long left = -1; /* allocations until one fails; those behind it succeed */
static bool failed;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

/* For the reserve, which asks malloc. */
void *__wrap_malloc(size_t size)
{
    failed |= left == 0;
    return left-- == 0 ? NULL : __real_malloc(size);
}

static void *allocate(size_t size)
{
    return __wrap_malloc(size);
}

static json_t *value(void)
{
    json_t *object = json_object();

    for (int i = 0; i < 40; i++) {
        char name[64];

        snprintf(name, sizeof(name), "a-name-that-is-not-short-%d", i);
        json_object_set_new(object, name, json_pack("{s:s, s:[i, b]}", "text", "what it holds", "list", i, 1));
    }
    return object;
}

static void each_failure(size_t flags)
{
    json_t *object = value();
    char *whole = json_text(object, flags), *text = NULL;
    json_t *again;

    ck_assert_ptr_nonnull(whole);
    again = json_loads(whole, 0, NULL);
    ck_assert(json_equal(object, again));
    json_decref(again);
    json_set_alloc_funcs(allocate, free);
    failed = true;
    for (long succeed = 0; failed; succeed++) {
        failed = false;
        left = succeed;
        text = json_text(object, flags);
        left = -1;
        ck_assert(!text || !strcmp(text, whole));
        ck_assert(text || failed);
        free(text);
    }
    json_set_alloc_funcs(malloc, free);
    free(whole);
    json_decref(object);
}

START_TEST(a_text_is_whole_or_there_is_none)
{
    each_failure(JSON_COMPACT);
    each_failure(JSON_COMPACT | JSON_SORT_KEYS);
    each_failure(JSON_INDENT(2));
}
END_TEST

START_TEST(a_value_that_is_no_value_has_no_text)
{
    ck_assert_ptr_null(json_text(NULL, JSON_COMPACT));
}
END_TEST

/* The n-th allocation fails, whichever it is: what is read is the same. */
START_TEST(a_text_is_read_whatever_allocation_fails)
{
    json_t *object = value(), *again = NULL;
    char *text = json_text(object, JSON_INDENT(2));

    json_use_reserve();
    failed = true;
    for (long succeed = 0; failed; succeed++) {
        failed = false;
        left = succeed;
        again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        left = -1;
        ck_assert(json_equal(object, again));
        json_decref(again);
    }
    free(text);
    json_decref(object);
    json_set_alloc_funcs(malloc, free);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_text_is_whole_or_there_is_none);
    tcase_add_test(tests, a_text_is_read_whatever_allocation_fails);
    tcase_add_test(tests, a_value_that_is_no_value_has_no_text);
}

int main(void)
{
    return unit_run("json", add_tests);
}
