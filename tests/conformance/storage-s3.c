/* SPDX-License-Identifier: BSD-2-Clause */
/* What the s3 plugin promises beyond the contract: one writer, commits, faults, the copy that follows. */
#include "storage-s3.h"
#include "storage.h"

#include <fcntl.h>
#include <sys/stat.h>

#define BLOCK (16u << 10)
#define SIZE ((uint64_t)64 * BLOCK)

static const char *const quick[] = {"timeout", "1s", NULL};

static struct instance *device(const char *const *more)
{
    return storage_s3(NULL, "vm", more);
}

static struct instance *new_device(void)
{
    struct instance *s3 = device(NULL);

    storage_must_open(s3, SIZE, DRAFTER_STORAGE_CREATE);
    return s3;
}

/* What another process finds: the device from the bucket, with nothing cached. */
static struct instance *reopen(struct instance *s3, const char *const *more)
{
    instance_free(s3);
    s3 = device(more);
    storage_must_open(s3, 0, 0);
    return s3;
}

static void put(struct instance *s3, unsigned block, uint64_t seed)
{
    uint8_t bytes[BLOCK];

    conformance_fill(bytes, sizeof bytes, seed, 0);
    ck_assert_int_eq(storage_write(s3, bytes, sizeof bytes, (uint64_t)block * BLOCK), 0);
}

static bool has(struct instance *s3, unsigned block, uint64_t seed)
{
    uint8_t bytes[BLOCK];

    ck_assert_int_eq(storage_read(s3, bytes, sizeof bytes, (uint64_t)block * BLOCK), 0);
    return conformance_matches(bytes, sizeof bytes, seed, 0);
}

static void faults(const char *rules)
{
    json_decref(s3_server("/_faults", rules));
}

static void options(const char *values)
{
    json_decref(s3_server("/_options", values));
}

/* Ends an instance as a power cut would: nothing more reaches the server. */
static void cut_off(struct instance *s3)
{
    faults("[{\"action\":\"status\",\"status\":403,\"count\":100000}]");
    instance_free(s3);
    faults("[]");
}

/* A device with block 0 flushed, open again and with an empty cache. */
static struct instance *flushed_device(const char *const *more)
{
    struct instance *s3 = new_device();

    put(s3, 0, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    s3 = reopen(s3, more);
    return s3;
}

/* ---- commits ---------------------------------------------------------------------------------- */

START_TEST(what_was_not_flushed_is_not_there_after_a_crash)
{
    struct instance *s3 = new_device();

    put(s3, 0, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    put(s3, 0, 2);
    put(s3, 1, 2);
    cut_off(s3);
    s3 = device(NULL);
    storage_must_open(s3, 0, 0);
    ck_assert(has(s3, 0, 1));
    ck_assert(!has(s3, 1, 2));
    instance_free(s3);
}
END_TEST

START_TEST(old_versions_and_leftovers_are_deleted)
{
    struct instance *s3 = new_device();

    for (unsigned round = 0; round < 5; round++) {
        for (unsigned block = 0; block < 8; block++)
            put(s3, block, round);
        ck_assert_int_eq(storage_flush(s3), 0);
    }
    ck_assert_uint_eq(s3_count("vm/b/"), 8);
    ck_assert_uint_eq(s3_count("vm/i/"), 1);
    /* Blocks are sent, the commit is not. */
    faults("[{\"action\":\"status\",\"status\":403,\"path\":\"/(i/|root)\",\"count\":1000}]");
    put(s3, 9, 1);
    ck_assert_int_lt(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_count("vm/b/"), 9);
    instance_free(s3);
    faults("[]");
    options("{\"page\": 3}");
    s3 = device(NULL);
    storage_must_open(s3, 0, 0);
    for (int i = 0; i < 100 && s3_count("vm/b/") > 8; i++)
        conformance_sleep_ms(20);
    ck_assert_uint_eq(s3_count("vm/b/"), 8);
    ck_assert(has(s3, 7, 4));
    instance_free(s3);
}
END_TEST

START_TEST(leftovers_are_not_what_the_last_commit_needs)
{
    struct instance *s3 = flushed_device(NULL);
    unsigned before;

    instance_free(s3);
    before = s3_requests("GET", "list-type");
    /* While it is looked for leftovers a block is replaced, and the commit fails. */
    faults("[{\"action\":\"status\",\"status\":403,\"method\":\"PUT\",\"path\":\"/i/\",\"count\":1000},"
           "{\"action\":\"delay\",\"seconds\":0.3,\"path\":\"list-type\",\"count\":1}]");
    s3 = device(NULL);
    storage_must_open(s3, 0, 0);
    put(s3, 0, 2);
    ck_assert_int_lt(storage_flush(s3), 0);
    for (int i = 0; i < 200 && s3_requests("GET", "list-type") < before + 2; i++)
        conformance_sleep_ms(10);
    cut_off(s3);
    s3 = device(NULL);
    storage_must_open(s3, 0, 0);
    ck_assert(has(s3, 0, 1));
    instance_free(s3);
}
END_TEST

START_TEST(a_flush_does_not_wait_for_each_deletion_of_an_outage)
{
    static const char *const patient[] = {"timeout", "2s", NULL};
    struct instance *s3 = device(patient);
    uint64_t start;

    storage_must_open(s3, SIZE, DRAFTER_STORAGE_CREATE);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned block = 0; block < 8; block++)
            put(s3, block, round);
        start = conformance_now_ms();
        ck_assert_int_eq(storage_flush(s3), 0);
        faults("[{\"action\":\"status\",\"status\":503,\"method\":\"DELETE\",\"count\":100000}]");
    }
    ck_assert_uint_lt(conformance_now_ms() - start, 8000);
    faults("[]");
    ck_assert(has(s3, 7, 1));
    instance_free(s3);
}
END_TEST

START_TEST(a_flush_deletes_several_objects_at_a_time)
{
    struct instance *s3 = new_device();
    uint64_t start;

    for (unsigned round = 0; round < 2; round++) {
        for (unsigned block = 0; block < 24; block++)
            put(s3, block, round);
        start = conformance_now_ms();
        ck_assert_int_eq(storage_flush(s3), 0);
        faults("[{\"action\":\"delay\",\"seconds\":0.1,\"method\":\"DELETE\",\"count\":1000}]");
    }
    ck_assert_uint_lt(conformance_now_ms() - start, 1600); /* one by one it is 2500 */
    ck_assert_uint_eq(s3_count("vm/b/"), 24);
    instance_free(s3);
}
END_TEST

START_TEST(a_flush_of_nothing_asks_nobody)
{
    struct instance *s3 = flushed_device(NULL);
    unsigned before = s3_requests("PUT", "vm/");

    ck_assert_int_eq(storage_flush(s3), 0);
    put(s3, 0, 1); /* what is there */
    ck_assert_int_eq(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_requests("PUT", "vm/"), before);
    put(s3, 0, 2);
    ck_assert_int_eq(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_requests("PUT", "vm/"), before + 3);
    instance_free(s3);
}
END_TEST

START_TEST(zeros_take_no_object)
{
    struct instance *s3 = new_device();

    put(s3, 3, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_count("vm/b/"), 1);
    ck_assert_int_eq(storage_zero(s3, BLOCK, 3 * BLOCK), 0);
    ck_assert_int_eq(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_count("vm/b/"), 0);
    instance_free(s3);
}
END_TEST

START_TEST(the_same_content_is_not_sent_again)
{
    struct instance *s3 = flushed_device(NULL);
    unsigned before = s3_requests("PUT", "vm/b/");

    put(s3, 0, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    ck_assert_uint_eq(s3_requests("PUT", "vm/b/"), before);
    instance_free(s3);
}
END_TEST

START_TEST(a_second_writer_ends_the_first_ones_commits)
{
    struct instance *first = new_device(), *second = device(NULL);

    put(first, 0, 1);
    ck_assert_int_eq(storage_flush(first), 0);
    storage_must_open(second, 0, 0);
    put(first, 1, 1);
    ck_assert_int_eq(storage_flush(first), -ESTALE);
    ck_assert_int_eq(storage_flush(first), -ESTALE);
    put(second, 2, 2);
    ck_assert_int_eq(storage_flush(second), 0);
    instance_free(first);
    ck_assert(has(second, 0, 1));
    ck_assert(!has(second, 1, 1));
    instance_free(second);
}
END_TEST

START_TEST(a_server_without_conditions_still_notices_another_writer)
{
    struct instance *first, *second = device(NULL);

    options("{\"conditions\": false}");
    first = new_device();
    put(first, 0, 1);
    ck_assert_int_eq(storage_flush(first), 0);
    storage_must_open(second, 0, 0);
    put(first, 1, 1);
    ck_assert_int_eq(storage_flush(first), -ESTALE);
    instance_free(first);
    instance_free(second);
}
END_TEST

START_TEST(a_server_that_knows_etags_only_without_quotes_is_understood)
{
    struct instance *first, *second = device(NULL);

    options("{\"bare\": true}");
    first = new_device();
    for (unsigned round = 0; round < 3; round++) {
        put(first, 0, round);
        ck_assert_int_eq(storage_flush(first), 0);
    }
    /* Three commits after the first, of which one asked twice. */
    ck_assert_uint_eq(s3_requests("PUT", "root"), 5);
    storage_must_open(second, 0, 0);
    put(first, 1, 1);
    ck_assert_int_eq(storage_flush(first), -ESTALE);
    ck_assert(has(second, 0, 2));
    instance_free(first);
    instance_free(second);
}
END_TEST

START_TEST(a_commit_whose_answer_was_lost_is_one)
{
    struct instance *s3 = new_device();

    for (unsigned round = 0; round < 3; round++) {
        faults("[{\"action\":\"unheard\",\"method\":\"PUT\",\"path\":\"root\",\"count\":1}]");
        put(s3, 0, round);
        ck_assert_int_eq(storage_flush(s3), 0);
    }
    s3 = reopen(s3, NULL);
    ck_assert(has(s3, 0, 2));
    instance_free(s3);
}
END_TEST

/* ---- faults ----------------------------------------------------------------------------------- */

static const char *const passing[] = {
    "[{\"action\":\"status\",\"status\":503,\"count\":4}]",
    "[{\"action\":\"status\",\"status\":500,\"count\":2}]",
    "[{\"action\":\"drop\",\"count\":3}]",
    "[{\"action\":\"cut\",\"count\":3}]",
    "[{\"action\":\"unheard\",\"count\":3}]",
};

START_TEST(passing_faults_are_not_noticed)
{
    struct instance *s3 = flushed_device(NULL);

    faults(passing[_i]);
    ck_assert(has(s3, 0, 1));
    faults(passing[_i]);
    put(s3, 1, 2);
    ck_assert_int_eq(storage_flush(s3), 0);
    faults("[]");
    s3 = reopen(s3, NULL);
    ck_assert(has(s3, 1, 2));
    instance_free(s3);
}
END_TEST

START_TEST(an_outage_fails_the_flush_for_good_and_keeps_what_was_committed)
{
    struct instance *s3 = flushed_device(quick);
    uint64_t start = conformance_now_ms();

    faults("[{\"action\":\"status\",\"status\":503,\"count\":100000}]");
    put(s3, 0, 2);
    ck_assert_int_lt(storage_flush(s3), 0);
    ck_assert_uint_lt(conformance_now_ms() - start, 8000);
    faults("[]");
    ck_assert_int_lt(storage_flush(s3), 0);
    cut_off(s3);
    s3 = device(NULL);
    storage_must_open(s3, 0, 0);
    ck_assert(has(s3, 0, 1));
    instance_free(s3);
}
END_TEST

/* Each is an error of the read alone, and never the wrong bytes. */
static void expect_unreadable(struct instance *s3)
{
    uint8_t bytes[BLOCK];

    ck_assert_int_eq(storage_read(s3, bytes, sizeof bytes, 0), -EIO);
    ck_assert_int_eq(storage_read(s3, bytes, sizeof bytes, BLOCK), 0);
    instance_free(s3);
}

static char *block_name(void)
{
    json_t *objects = s3_server("/_objects", NULL), *size;
    const char *name;
    char *found = NULL;

    json_object_foreach (objects, name, size)
        if (strstr(name, "/b/") && !found)
            found = strdup(name);
    json_decref(objects);
    ck_assert_ptr_nonnull(found);
    return found;
}

START_TEST(a_damaged_block_is_not_served)
{
    struct instance *s3 = flushed_device(NULL);
    cleanup_free char *name = block_name(), *path = NULL;

    ck_assert_int_gt(asprintf(&path, "/_corrupt/%s", name), 0);
    json_decref(s3_server(path, ""));
    expect_unreadable(s3);
}
END_TEST

START_TEST(a_block_that_is_gone_is_an_error)
{
    struct instance *s3 = flushed_device(NULL);

    faults("[{\"action\":\"status\",\"status\":404,\"path\":\"/b/\",\"count\":1}]");
    expect_unreadable(s3);
}
END_TEST

START_TEST(a_bit_that_flips_on_the_way_is_an_error)
{
    struct instance *s3 = flushed_device(NULL);

    faults("[{\"action\":\"corrupt\",\"path\":\"/b/\",\"count\":1}]");
    expect_unreadable(s3);
}
END_TEST

static void expect_refused(struct instance *s3, int code, const char *text)
{
    struct drafter_error err = {0};

    conformance_expect_error(storage_open(s3, SIZE, DRAFTER_STORAGE_CREATE, &err), code, &err, text);
    instance_free(s3);
}

START_TEST(a_wrong_secret_is_said)
{
    setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
    expect_refused(device(NULL), EACCES, "SignatureDoesNotMatch");
}
END_TEST

START_TEST(a_wrong_clock_is_said)
{
    options("{\"skew\": 7200}");
    expect_refused(device(NULL), EACCES, "RequestTimeTooSkewed");
}
END_TEST

START_TEST(a_missing_bucket_or_device_is_said)
{
    static const char *const elsewhere[] = {"bucket", "other", NULL};
    struct instance *s3 = device(NULL);
    struct drafter_error err = {0};

    conformance_expect_error(storage_open(s3, 0, 0, &err), ENOENT, &err, "has no device at prefix");
    instance_free(s3);
    s3 = device(elsewhere);
    ck_assert_int_lt(storage_open(s3, SIZE, DRAFTER_STORAGE_CREATE, &err), 0);
    instance_free(s3);
}
END_TEST

START_TEST(a_session_token_is_signed)
{
    struct instance *s3;

    setenv("AWS_SESSION_TOKEN", "session/token+", 1);
    s3 = new_device();
    put(s3, 0, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    instance_free(s3);
}
END_TEST

/* ---- secrets ---------------------------------------------------------------------------------- */

static const char *secret_file(const char *text, mode_t mode)
{
    const char *path = conformance_path("secret");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

START_TEST(encrypted_blocks_tell_nothing_and_need_their_key)
{
    static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    const char *const key[] = {"encryption-key", secret_file(hex, 0600), NULL};
    struct drafter_error err = {0};
    struct instance *s3 = device(key);

    storage_must_open(s3, SIZE, DRAFTER_STORAGE_CREATE);
    put(s3, 0, 1);
    ck_assert_int_eq(storage_flush(s3), 0);
    s3 = reopen(s3, key);
    ck_assert(has(s3, 0, 1));
    instance_free(s3);
    s3 = device(NULL);
    conformance_expect_error(storage_open(s3, 0, 0, &err), EBADMSG, &err, "encrypted with another key");
    instance_free(s3);
}
END_TEST

START_TEST(secrets_that_others_can_read_are_refused)
{
    const char *const options[] = {
        "endpoint", "http://127.0.0.1:1", "bucket", "test", "credentials",
        secret_file("[default]\naws_access_key_id=A\naws_secret_access_key=B\n", 0644), NULL};
    struct drafter_error err = {0};

    conformance_expect_error(conformance_refused(DRAFTER_KIND_STORAGE, "s3", options, &err), EPERM, &err,
                             "others may read it");
    ck_assert_int_eq(chmod(options[5], 0600), 0);
    instance_free(conformance_instance(DRAFTER_KIND_STORAGE, "s3", options));
}
END_TEST

/* ---- an object -------------------------------------------------------------------------------- */

START_TEST(an_object_is_read_by_ranges_and_must_stay)
{
    cleanup_free char *name = NULL, *path = NULL;
    const char *more[] = {"object", NULL, "readahead", "0", NULL};
    struct instance *s3 = flushed_device(NULL), *object;
    uint8_t bytes[512];

    instance_free(s3);
    name = block_name();
    more[1] = name;
    object = device(more);
    storage_must_open(object, 0, DRAFTER_STORAGE_READONLY);
    ck_assert_uint_gt(storage_size(object), BLOCK);
    ck_assert_int_eq(storage_read(object, bytes, sizeof bytes, 0), 0);
    ck_assert_mem_eq(bytes, "DrafterB", 8);
    ck_assert_int_gt(asprintf(&path, "/_corrupt/%s", name), 0);
    json_decref(s3_server(path, ""));
    ck_assert_int_eq(storage_read(object, bytes, 16, BLOCK), -EIO);
    instance_free(object);
}
END_TEST

START_TEST(a_sequential_reader_is_read_ahead_of)
{
    struct instance *s3 = new_device();

    for (unsigned block = 0; block < 16; block++)
        put(s3, block, block);
    ck_assert_int_eq(storage_flush(s3), 0);
    instance_free(s3);
    s3 = device(NULL);
    storage_must_open(s3, 0, DRAFTER_STORAGE_READONLY);
    ck_assert(has(s3, 0, 0) && has(s3, 1, 1));
    for (int i = 0; i < 100 && s3_requests("GET", "vm/b/") < 6; i++)
        conformance_sleep_ms(10);
    ck_assert_uint_ge(s3_requests("GET", "vm/b/"), 6);
    for (unsigned block = 2; block < 16; block++)
        ck_assert(has(s3, block, block));
    instance_free(s3);
}
END_TEST

/* ---- the copy that follows -------------------------------------------------------------------- */

static struct instance *local_file(void)
{
    const char *path = conformance_path("local");

    if (access(path, F_OK) != 0)
        storage_write_file(path, 7, SIZE);
    return storage_make("file", (const char *const[]){"path", path, NULL}, NULL);
}

static void expect_copy(uint64_t seed, unsigned block, uint64_t block_seed)
{
    struct instance *copy = device(NULL);
    uint8_t bytes[BLOCK];

    storage_must_open(copy, 0, DRAFTER_STORAGE_READONLY);
    for (unsigned i = 0; i < SIZE / BLOCK; i++) {
        ck_assert_int_eq(storage_read(copy, bytes, sizeof bytes, i * BLOCK), 0);
        ck_assert_msg(i == block ? conformance_matches(bytes, sizeof bytes, block_seed, 0)
                                 : conformance_matches(bytes, sizeof bytes, seed, i * BLOCK),
                      "block %u of the copy is wrong", i);
    }
    instance_free(copy);
}

START_TEST(the_copy_follows_and_goes_on_where_it_was_cut_off)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", NULL);

    /* Cut off in the middle of the first copy. */
    faults("[{\"action\":\"drop\",\"path\":\"/b/0000000000080000\",\"count\":100000}]");
    storage_must_open(layer, 0, 0);
    for (int i = 0; i < 200 && s3_requests("PUT", "vm/b/") < SIZE / BLOCK; i++)
        conformance_sleep_ms(10);
    cut_off(layer);
    instance_free(local);
    local = local_file();
    layer = storage_s3(local, "vm", NULL);
    storage_must_open(layer, 0, 0);
    put(layer, 5, 99);
    instance_free(layer);
    instance_free(local);
    expect_copy(7, 5, 99);
}
END_TEST

START_TEST(an_outage_of_the_copy_does_not_reach_the_guest)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", quick);

    faults("[{\"action\":\"status\",\"status\":503,\"count\":100000}]");
    storage_must_open(layer, 0, 0);
    put(layer, 5, 99);
    ck_assert_int_eq(storage_flush(layer), 0);
    ck_assert(has(layer, 5, 99));
    faults("[]");
    conformance_sleep_ms(50);
    instance_free(layer);
    instance_free(local);
}
END_TEST

START_TEST(an_end_in_an_outage_takes_no_longer_than_drain)
{
    static const char *const short_drain[] = {"drain", "500ms", NULL};
    struct instance *local = local_file(), *layer = storage_s3(local, "slow", short_drain);
    uint64_t start;

    faults("[{\"action\":\"delay\",\"seconds\":5,\"path\":\"slow/b/\",\"count\":1000}]");
    storage_must_open(layer, 0, 0);
    for (int i = 0; i < 500 && s3_requests("PUT", "slow/b/") == 0; i++)
        conformance_sleep_ms(10);
    start = conformance_now_ms();
    instance_free(layer);
    ck_assert_uint_lt(conformance_now_ms() - start, 4000);
    instance_free(local);
}
END_TEST

START_TEST(a_copy_does_not_take_over_a_device_of_another_size)
{
    struct instance *other = device(NULL), *local = local_file(), *layer = storage_s3(local, "vm", NULL);

    storage_must_open(other, 2 * SIZE, DRAFTER_STORAGE_CREATE);
    storage_must_open(layer, 0, 0);
    conformance_sleep_ms(300);
    instance_free(layer);
    instance_free(local);
    put(other, 0, 1);
    ck_assert_int_eq(storage_flush(other), 0);
    instance_free(other);
}
END_TEST

START_TEST(a_block_is_not_sent_twice_at_a_time)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", NULL);

    /* It is written before the first round, which sends what is dirty and begins with the whole device. */
    faults("[{\"action\":\"delay\",\"seconds\":0.3,\"path\":\"root\",\"count\":1},"
           "{\"action\":\"delay\",\"seconds\":0.3,\"path\":\"/b/0000000000014000\",\"count\":1}]");
    storage_must_open(layer, 0, 0);
    put(layer, 5, 99);
    for (int i = 0; i < 500 && s3_requests("PUT", "vm/i/") == 0; i++)
        conformance_sleep_ms(10);
    ck_assert_uint_eq(s3_requests("PUT", "/b/0000000000014000"), 1);
    instance_free(layer);
    instance_free(local);
    expect_copy(7, 5, 99);
}
END_TEST

START_TEST(an_arriving_device_takes_from_the_bucket_what_it_is_told_is_there)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", NULL);
    uint8_t hash[16], zeros[16] = {0}, bytes[BLOCK], expected[BLOCK];
    unsigned roots;

    storage_must_open(layer, 0, 0);
    instance_free(layer);
    instance_free(local);
    roots = s3_requests("PUT", "root");
    ck_assert_int_eq(unlink(conformance_path("local")), 0);
    local = storage_make("file", (const char *const[]){"path", conformance_path("local"), NULL}, NULL);
    layer = storage_s3(local, "vm", NULL);
    storage_must_open(layer, SIZE, DRAFTER_STORAGE_CREATE | DRAFTER_STORAGE_ARRIVING);
    ck_assert_int_eq(storage_digest(layer, 3 * BLOCK, BLOCK, hash), 0);
    ck_assert_mem_ne(hash, zeros, sizeof hash);
    ck_assert_int_eq(storage_digest(layer, 3 * BLOCK + PAGE, BLOCK, hash), -ENOENT);
    put(layer, 4, 44); /* the source sent another one */
    ck_assert_int_eq(storage_digest(layer, 4 * BLOCK, BLOCK, hash), -ENOENT);
    faults("[{\"action\":\"status\",\"status\":404,\"path\":\"/b/0000000000018000\",\"count\":100}]");
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, 6 * BLOCK), -EIO);
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, 3 * BLOCK), 0);
    conformance_fill(expected, sizeof expected, 7, 3 * BLOCK);
    ck_assert_mem_eq(bytes, expected, BLOCK);
    /* From now on it is local. */
    ck_assert_int_eq(storage_read(local, bytes, sizeof bytes, 3 * BLOCK), 0);
    ck_assert_mem_eq(bytes, expected, BLOCK);
    ck_assert(has(layer, 4, 44));
    ck_assert_uint_eq(s3_requests("PUT", "root"), roots); /* the copy is the source's */
    instance_free(layer);
    instance_free(local);
}
END_TEST

START_TEST(a_page_is_stored_though_the_rest_of_its_block_is_gone)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", NULL);
    uint8_t page[PAGE], bytes[PAGE];
    unsigned at = 6 * BLOCK;

    storage_must_open(layer, 0, 0);
    instance_free(layer);
    instance_free(local);
    local = local_file();
    layer = storage_s3(local, "vm", NULL);
    storage_must_open(layer, SIZE, DRAFTER_STORAGE_CREATE | DRAFTER_STORAGE_ARRIVING);
    faults("[{\"action\":\"status\",\"status\":404,\"path\":\"/b/0000000000018000\",\"count\":100}]");
    conformance_fill(page, sizeof page, 66, 0);
    ck_assert_int_eq(storage_write(layer, page, sizeof page, at + PAGE), 0);
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, at + PAGE), 0);
    ck_assert_mem_eq(bytes, page, PAGE);
    /* What is below there is not what the bucket had. */
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, at), -EIO);
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, at + 2 * PAGE), -EIO);
    ck_assert_int_eq(storage_zero(layer, PAGE, at), 0);
    ck_assert_int_eq(storage_read(layer, bytes, sizeof bytes, at), 0);
    instance_free(layer);
    instance_free(local);
}
END_TEST

START_TEST(an_arrival_that_goes_on_keeps_what_has_arrived)
{
    struct instance *local = local_file(), *layer = storage_s3(local, "vm", NULL);
    const unsigned arriving = DRAFTER_STORAGE_CREATE | DRAFTER_STORAGE_ARRIVING;
    uint8_t hash[16];
    unsigned roots;

    storage_must_open(layer, 0, 0);
    instance_free(layer);
    instance_free(local);
    roots = s3_requests("PUT", "root");
    local = local_file();
    layer = storage_s3(local, "vm", NULL);
    storage_must_open(layer, SIZE, arriving);
    put(layer, 4, 44);
    instance_free(layer); /* its process dies */
    instance_free(local);
    local = local_file();
    layer = storage_s3(local, "vm", NULL);
    storage_must_open(layer, SIZE, arriving | DRAFTER_STORAGE_GOES_ON);
    ck_assert_int_eq(storage_digest(layer, 4 * BLOCK, BLOCK, hash), -ENOENT);
    ck_assert(has(layer, 4, 44));
    ck_assert_uint_eq(s3_requests("PUT", "root"), roots); /* the copy is the source's */
    storage_settled(layer);
    instance_free(layer);
    instance_free(local);
    expect_copy(7, 4, 44);
}
END_TEST

static void add_layer_tests(TCase *tests)
{
    tcase_add_test(tests, the_copy_follows_and_goes_on_where_it_was_cut_off);
    tcase_add_test(tests, an_outage_of_the_copy_does_not_reach_the_guest);
    tcase_add_test(tests, an_end_in_an_outage_takes_no_longer_than_drain);
    tcase_add_test(tests, a_copy_does_not_take_over_a_device_of_another_size);
    tcase_add_test(tests, a_block_is_not_sent_twice_at_a_time);
    tcase_add_test(tests, an_arriving_device_takes_from_the_bucket_what_it_is_told_is_there);
    tcase_add_test(tests, a_page_is_stored_though_the_rest_of_its_block_is_gone);
    tcase_add_test(tests, an_arrival_that_goes_on_keeps_what_has_arrived);
}

static void teardown(void)
{
    storage_s3_clear();
    unlink(conformance_path("local"));
    unlink(conformance_path("secret"));
}

TCase *storage_s3_case(void)
{
    TCase *tests = tcase_create("s3");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, what_was_not_flushed_is_not_there_after_a_crash);
    tcase_add_test(tests, old_versions_and_leftovers_are_deleted);
    tcase_add_test(tests, leftovers_are_not_what_the_last_commit_needs);
    tcase_add_test(tests, a_flush_does_not_wait_for_each_deletion_of_an_outage);
    tcase_add_test(tests, a_flush_deletes_several_objects_at_a_time);
    tcase_add_test(tests, a_flush_of_nothing_asks_nobody);
    tcase_add_test(tests, zeros_take_no_object);
    tcase_add_test(tests, the_same_content_is_not_sent_again);
    tcase_add_test(tests, a_second_writer_ends_the_first_ones_commits);
    tcase_add_test(tests, a_server_without_conditions_still_notices_another_writer);
    tcase_add_test(tests, a_server_that_knows_etags_only_without_quotes_is_understood);
    tcase_add_test(tests, a_commit_whose_answer_was_lost_is_one);
    tcase_add_loop_test(tests, passing_faults_are_not_noticed, 0, sizeof passing / sizeof *passing);
    tcase_add_test(tests, an_outage_fails_the_flush_for_good_and_keeps_what_was_committed);
    tcase_add_test(tests, a_damaged_block_is_not_served);
    tcase_add_test(tests, a_block_that_is_gone_is_an_error);
    tcase_add_test(tests, a_bit_that_flips_on_the_way_is_an_error);
    tcase_add_test(tests, a_wrong_secret_is_said);
    tcase_add_test(tests, a_wrong_clock_is_said);
    tcase_add_test(tests, a_missing_bucket_or_device_is_said);
    tcase_add_test(tests, a_session_token_is_signed);
    tcase_add_test(tests, encrypted_blocks_tell_nothing_and_need_their_key);
    tcase_add_test(tests, secrets_that_others_can_read_are_refused);
    tcase_add_test(tests, an_object_is_read_by_ranges_and_must_stay);
    tcase_add_test(tests, a_sequential_reader_is_read_ahead_of);
    if (conformance_available(DRAFTER_KIND_STORAGE, "file"))
        add_layer_tests(tests);
    return tests;
}
