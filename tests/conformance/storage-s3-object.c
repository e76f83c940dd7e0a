/* SPDX-License-Identifier: BSD-2-Clause */
/* An object that the s3 plugin makes: in parts, whole or not at all, and nothing that was there before is lost. */
#include "storage-s3.h"
#include "storage.h"

#define NAME "packages/a b.tar.zst"
#define PART ((uint64_t)5 << 20) /* the least that S3 allows */
#define SIZE (PART + 12345)
#define STEP ((size_t)700 << 10)
#define CREATE DRAFTER_STORAGE_CREATE

static uint8_t content[SIZE];

static struct instance *object(const char *key, const char *value)
{
    return storage_s3(NULL, "unused",
                      (const char *const[]){"object", NAME, "part-size", "5M", key, value, NULL});
}

static struct instance *begin(uint64_t size)
{
    struct instance *s3 = object(NULL, NULL);

    storage_must_open(s3, size, CREATE);
    return s3;
}

static int write_all(struct instance *s3, uint64_t size, uint64_t seed)
{
    int rc = 0;

    conformance_fill(content, size, seed, 0);
    for (uint64_t at = 0; !rc && at < size; at += STEP)
        rc = storage_write(s3, content + at, size - at < STEP ? (size_t)(size - at) : STEP, at);
    return rc;
}

static int make(struct instance *s3, uint64_t size, uint64_t seed)
{
    int rc;

    storage_must_open(s3, size, CREATE);
    rc = write_all(s3, size, seed);
    if (!rc)
        rc = storage_flush(s3);
    instance_free(s3);
    return rc;
}

static void expect_object(uint64_t size, uint64_t seed)
{
    struct instance *s3 = object(NULL, NULL);

    storage_must_open(s3, 0, DRAFTER_STORAGE_READONLY);
    ck_assert_uint_eq(storage_size(s3), size);
    memset(content, 0, sizeof content);
    ck_assert_int_eq(storage_read(s3, content, size, 0), 0);
    ck_assert(conformance_matches(content, size, seed, 0));
    instance_free(s3);
}

static void expect_nothing(void)
{
    ck_assert_uint_eq(s3_count("packages/"), 0);
    ck_assert_uint_eq(s3_uploads(), 0);
}

static void faults(const char *rules)
{
    json_decref(s3_server("/_faults", rules));
}

START_TEST(a_large_object_is_made_of_parts)
{
    struct instance *s3 = begin(SIZE);

    ck_assert_int_eq(write_all(s3, SIZE, 1), 0);
    ck_assert_uint_eq(s3_count("packages/"), 0);
    ck_assert_uint_eq(s3_uploads(), 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    instance_free(s3);
    ck_assert_uint_eq(s3_uploads(), 0);
    ck_assert_uint_eq(s3_requests("PUT", "partNumber"), 2);
    expect_object(SIZE, 1);
}
END_TEST

START_TEST(a_small_object_is_made_by_one_request)
{
    ck_assert_int_eq(make(object(NULL, NULL), PART, 1), 0);
    ck_assert_uint_eq(s3_requests("PUT", "a%20b"), 1);
    ck_assert_uint_eq(s3_requests("POST", "a%20b"), 0);
    expect_object(PART, 1);
}
END_TEST

START_TEST(what_is_not_finished_leaves_nothing)
{
    struct instance *s3 = begin(SIZE);

    ck_assert_int_eq(write_all(s3, SIZE - 1, 1), 0);
    ck_assert_uint_eq(s3_uploads(), 1);
    instance_free(s3);
    expect_nothing();
    s3 = begin(SIZE);
    ck_assert_int_eq(write_all(s3, SIZE - 1, 1), 0);
    ck_assert_int_lt(storage_flush(s3), 0); /* the last byte is not there */
    ck_assert_int_lt(storage_write(s3, content, 1, SIZE - 1), 0);
    instance_free(s3);
    expect_nothing();
}
END_TEST

static const char *const lasting[] = {
    "[{\"action\":\"status\",\"status\":403,\"method\":\"PUT\",\"count\":1}]",
    "[{\"action\":\"status\",\"status\":403,\"method\":\"POST\",\"path\":\"uploadId\",\"count\":1}]",
    "[{\"action\":\"status\",\"status\":503,\"method\":\"PUT\",\"count\":100000}]",
};

START_TEST(an_upload_that_fails_leaves_nothing)
{
    struct instance *s3 = object("timeout", _i == 2 ? "1s" : "10s");

    storage_must_open(s3, SIZE, CREATE);
    faults(lasting[_i]);
    ck_assert_int_lt(write_all(s3, SIZE, 1) | storage_flush(s3), 0);
    instance_free(s3);
    faults("[]");
    expect_nothing();
}
END_TEST

static const char *const passing[] = {
    "[{\"action\":\"status\",\"status\":503,\"count\":3}]",
    "[{\"action\":\"unheard\",\"method\":\"POST\",\"path\":\"uploads=\",\"count\":1}]",
    "[{\"action\":\"unheard\",\"method\":\"PUT\",\"count\":1}]",
    "[{\"action\":\"unheard\",\"method\":\"POST\",\"path\":\"uploadId\",\"count\":1}]",
    "[{\"action\":\"late\",\"method\":\"POST\",\"path\":\"uploadId\",\"count\":1}]",
    "[{\"action\":\"drop\",\"count\":2}]",
};

START_TEST(passing_faults_leave_one_object)
{
    for (unsigned parts = 0; parts < 2; parts++) {
        faults(passing[_i]);
        ck_assert_int_eq(make(object("replace", parts ? "yes" : "no"), parts ? SIZE : 1000, parts), 0);
        faults("[]");
        ck_assert_uint_eq(s3_uploads(), 0);
        ck_assert_uint_eq(s3_count("packages/"), 1);
        expect_object(parts ? SIZE : 1000, parts);
    }
}
END_TEST

/* Who reads it goes on with what it was. */
START_TEST(an_object_that_is_there_stays)
{
    struct drafter_error err = {0};
    struct instance *s3;

    ck_assert_int_eq(make(object(NULL, NULL), 1000, 1), 0);
    s3 = object(NULL, NULL);
    conformance_expect_error(storage_open(s3, SIZE, CREATE, &err), EEXIST, &err, "it exists");
    instance_free(s3);
    ck_assert_uint_eq(s3_uploads(), 0);
    expect_object(1000, 1);
    ck_assert_int_eq(make(object("replace", "yes"), SIZE, 2), 0);
    expect_object(SIZE, 2);
}
END_TEST

static const uint64_t sizes[] = {1000, SIZE};

START_TEST(of_two_writers_the_first_to_finish_makes_it)
{
    struct instance *first = begin(sizes[_i]), *second = begin(1001);

    ck_assert_int_eq(write_all(first, sizes[_i], 1), 0);
    ck_assert_int_eq(write_all(second, 1001, 2), 0);
    ck_assert_int_eq(storage_flush(second), 0);
    ck_assert_int_lt(storage_flush(first), 0);
    instance_free(first);
    instance_free(second);
    ck_assert_uint_eq(s3_uploads(), 0);
    expect_object(1001, 2);
}
END_TEST

START_TEST(a_server_without_conditions_makes_it_too)
{
    json_decref(s3_server("/_options", "{\"conditions\": false}"));
    ck_assert_int_eq(make(object(NULL, NULL), SIZE, 1), 0);
    expect_object(SIZE, 1);
}
END_TEST

START_TEST(what_a_killed_upload_left_goes_with_the_next)
{
    struct instance *s3 = begin(SIZE);

    ck_assert_int_eq(write_all(s3, PART, 1), 0);
    faults("[{\"action\":\"status\",\"status\":403,\"count\":100000}]");
    instance_free(s3);
    faults("[]");
    ck_assert_uint_eq(s3_uploads(), 1);
    ck_assert_int_eq(make(object(NULL, NULL), SIZE, 2), 0);
    ck_assert_uint_eq(s3_uploads(), 0);
    expect_object(SIZE, 2);
}
END_TEST

START_TEST(it_is_written_from_front_to_back)
{
    struct instance *s3 = begin(SIZE);

    ck_assert_int_eq(storage_write(s3, content, 1000, 0), 0);
    ck_assert_int_lt(storage_write(s3, content, 1000, 0), 0);
    ck_assert_int_lt(storage_write(s3, content, 1000, 2000), 0);
    ck_assert_int_lt(storage_read(s3, content, 1000, 0), 0);
    instance_free(s3);
    s3 = object(NULL, NULL);
    ck_assert_int_eq(storage_open(s3, 0, CREATE, NULL), -EROFS);
    ck_assert_int_eq(storage_open(s3, SIZE, CREATE | DRAFTER_STORAGE_ARRIVING, NULL), -EROFS);
    instance_free(s3);
    expect_nothing();
}
END_TEST

TCase *storage_s3_object_case(void)
{
    TCase *tests = tcase_create("s3 object");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, storage_s3_clear);
    tcase_add_test(tests, a_large_object_is_made_of_parts);
    tcase_add_test(tests, a_small_object_is_made_by_one_request);
    tcase_add_test(tests, what_is_not_finished_leaves_nothing);
    tcase_add_loop_test(tests, an_upload_that_fails_leaves_nothing, 0, sizeof lasting / sizeof *lasting);
    tcase_add_loop_test(tests, passing_faults_leave_one_object, 0, sizeof passing / sizeof *passing);
    tcase_add_test(tests, an_object_that_is_there_stays);
    tcase_add_loop_test(tests, of_two_writers_the_first_to_finish_makes_it, 0, 2);
    tcase_add_test(tests, a_server_without_conditions_makes_it_too);
    tcase_add_test(tests, what_a_killed_upload_left_goes_with_the_next);
    tcase_add_test(tests, it_is_written_from_front_to_back);
    return tests;
}
