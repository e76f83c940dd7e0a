/* SPDX-License-Identifier: BSD-2-Clause */
/* The cache of the s3 plugin before a bucket that refuses everything. */
#include "unit.h"

#include "../../plugins/storage/s3/cache.h"
#include "../../plugins/storage/s3/pool.h"

#include <pthread.h>
#include <stdatomic.h>

#define BLOCK 4096
#define CLEANERS 4
#define ROUNDS 2000

static struct cache *cache;
static atomic_int acknowledged;

static int load(void *host, uint64_t block, void *content, size_t length)
{
    (void)host, (void)block;
    memset(content, 0, length);
    return 0;
}

static int begin(void *host, uint64_t block, const void *content, size_t length, void **ret_upload)
{
    (void)host, (void)block, (void)content, (void)length, (void)ret_upload;
    return -EIO;
}

static int finish(void *host, void *upload)
{
    (void)host, (void)upload;
    return 0;
}

static void *clean(void *opaque)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        atomic_fetch_add(&acknowledged, cache_clean(cache) == 0);
    return opaque;
}

START_TEST(what_was_not_sent_is_acknowledged_to_none_of_those_who_wait)
{
    const struct cache_source source = {
        .size = 8 * BLOCK, .load = load, .begin = begin, .finish = finish};
    struct pool *pool = pool_new(2);
    pthread_t cleaners[CLEANERS];

    cache = cache_new(&source, pool, BLOCK, 8 * BLOCK, 0);
    ck_assert_int_eq(cache_write(cache, "x", 1, 0), 0);
    for (unsigned i = 0; i < CLEANERS; i++)
        pthread_create(&cleaners[i], NULL, clean, NULL);
    for (unsigned i = 0; i < CLEANERS; i++)
        pthread_join(cleaners[i], NULL);
    ck_assert_int_eq(acknowledged, 0);
    pool_free(pool);
    cache_free(cache);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, what_was_not_sent_is_acknowledged_to_none_of_those_who_wait);
}

int main(void)
{
    return unit_run("s3-cache", add_tests);
}
