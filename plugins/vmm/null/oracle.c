/* SPDX-License-Identifier: BSD-2-Clause */
#include "oracle.h"
#include "util/io.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORDS (DRAFTER_PAGE_SIZE / sizeof(uint64_t))
#define MAX_PAGES (UINT64_C(1) << 31) /* keeps the products below within 64 bits */

/* The words in front of a page's body. */
enum { WORD_KEY, WORD_PAGE, WORD_VERSION, WORD_HASH, WORD_BODY };

uint64_t oracle_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* x with a * x = 1 modulo m, for a coprime to m (extended Euclid). */
static uint64_t inverse(uint64_t a, uint64_t m)
{
    int64_t t = 0, next_t = 1, r = (int64_t)m, next_r = (int64_t)a;

    if (m == 1)
        return 0;
    while (next_r) {
        int64_t quotient = r / next_r, old_t = t, old_r = r;

        t = next_t;
        next_t = old_t - quotient * next_t;
        r = next_r;
        next_r = old_r - quotient * next_r;
    }
    return (uint64_t)(t < 0 ? t + (int64_t)m : t);
}

int oracle_init(struct oracle *oracle, const char *what, int fd, uint64_t key, uint64_t pages,
                uint64_t hot, struct drafter_error *err)
{
    if (pages > MAX_PAGES || hot > pages)
        return drafter_error_set(err, EINVAL,
                                 "%s: %" PRIu64 " pages, %" PRIu64 " of them hot: too many", what,
                                 pages, hot);
    *oracle = (struct oracle){.what = what, .fd = fd, .key = key, .pages = pages, .hot = hot};
    if (!hot)
        return 0;
    oracle->stride = hot * 5 / 8 | 1; /* far from neighbour to neighbour */
    while (greatest_divisor(oracle->stride, hot) != 1)
        oracle->stride++;
    oracle->stride %= hot;
    oracle->stride_inverse = inverse(oracle->stride, hot);
    return 0;
}

/* Where a round begins. */
static uint64_t round_start(const struct oracle *oracle, uint64_t round)
{
    return oracle_mix(oracle->key + round) % oracle->hot;
}

uint64_t oracle_version(const struct oracle *oracle, uint64_t page)
{
    uint64_t round, distance;

    if (page >= oracle->hot)
        return 0;
    round = oracle->steps / oracle->hot;
    distance = (page + oracle->hot - round_start(oracle, round)) % oracle->hot;
    distance = distance * oracle->stride_inverse % oracle->hot;
    return round + (distance < oracle->steps % oracle->hot);
}

static uint64_t turn(const struct oracle *oracle)
{
    uint64_t round = oracle->steps / oracle->hot, position = oracle->steps % oracle->hot;

    return (round_start(oracle, round) + position * oracle->stride) % oracle->hot;
}

static void make_page(const struct oracle *oracle, uint64_t page, uint64_t version,
                      uint64_t words[WORDS])
{
    uint64_t hash = oracle_mix(oracle_mix(oracle->key + page) + version);

    words[WORD_KEY] = oracle->key;
    words[WORD_PAGE] = page;
    words[WORD_VERSION] = version;
    words[WORD_HASH] = hash;
    for (size_t i = WORD_BODY; i < WORDS; i++) {
        hash = hash * UINT64_C(0x5851f42d4c957f2d) + UINT64_C(0x14057b7ef767814f);
        words[i] = hash ^ hash >> 32;
    }
}

static int write_page(const struct oracle *oracle, uint64_t page, uint64_t version,
                      struct drafter_error *err)
{
    uint64_t words[WORDS];
    int result;

    make_page(oracle, page, version, words);
    result = io_pwrite_full(oracle->fd, words, sizeof(words), page << DRAFTER_PAGE_SHIFT);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot write page %" PRIu64, oracle->what,
                                   page);
    return 0;
}

/* Says what is wrong with a page that is not as it must be. */
static int describe_bad(const struct oracle *oracle, uint64_t page, const uint64_t words[WORDS],
                        struct drafter_error *err)
{
    uint64_t wanted = oracle_version(oracle, page), version = words[WORD_VERSION];
    uint64_t whole[WORDS];

    if (io_is_zero(words, sizeof(whole)))
        return drafter_error_set(err, EBADMSG,
                                 "%s: page %" PRIu64 " is lost: zeros, not version %" PRIu64,
                                 oracle->what, page, wanted);
    make_page(oracle, page, version, whole);
    if (memcmp(words, whole, sizeof(whole)) == 0)
        return drafter_error_set(
            err, EBADMSG, "%s: page %" PRIu64 " is %s: version %" PRIu64 ", not %" PRIu64,
            oracle->what, page, version < wanted ? "stale" : "from the future", version, wanted);
    if (words[WORD_KEY] != oracle->key)
        return drafter_error_set(err, EBADMSG, "%s: page %" PRIu64 " is foreign", oracle->what,
                                 page);
    if (words[WORD_PAGE] != page)
        return drafter_error_set(err, EBADMSG, "%s: page %" PRIu64 " holds page %" PRIu64,
                                 oracle->what, page, words[WORD_PAGE]);
    return drafter_error_set(err, EBADMSG, "%s: page %" PRIu64 " is torn", oracle->what, page);
}

static int verify_page(const struct oracle *oracle, uint64_t page, struct drafter_error *err)
{
    uint64_t words[WORDS], wanted[WORDS];
    int result = io_pread_full(oracle->fd, words, sizeof(words), page << DRAFTER_PAGE_SHIFT);

    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot read page %" PRIu64, oracle->what,
                                   page);
    make_page(oracle, page, oracle_version(oracle, page), wanted);
    if (memcmp(words, wanted, sizeof(words)) != 0)
        return describe_bad(oracle, page, words, err);
    return 0;
}

int oracle_fill(const struct oracle *oracle, struct drafter_error *err)
{
    for (uint64_t page = 0; page < oracle->pages; page++) {
        int result = write_page(oracle, page, 0, err);

        if (result < 0)
            return result;
    }
    return 0;
}

int oracle_step(struct oracle *oracle, struct drafter_error *err)
{
    uint64_t page;
    int result;

    if (!oracle->hot)
        return 0;
    page = turn(oracle);
    result = verify_page(oracle, page, err);
    if (result == 0)
        result = write_page(oracle, page, oracle_version(oracle, page) + 1, err);
    if (result == 0)
        oracle->steps++;
    return result;
}

int oracle_scan(struct oracle *oracle, uint64_t count, struct drafter_error *err)
{
    for (; count && oracle->scanned < oracle->pages; count--) {
        int result = verify_page(oracle, oracle->scanned, err);

        if (result < 0)
            return result;
        oracle->scanned++;
    }
    return 0;
}

int oracle_verify(const struct oracle *oracle, struct drafter_error *err)
{
    struct drafter_error first = {0};
    uint64_t bad = 0;

    for (uint64_t page = 0; page < oracle->pages; page++) {
        int result = verify_page(oracle, page, bad ? NULL : &first);

        if (result < 0 && result != -EBADMSG)
            return drafter_error_set(err, -result, "%s", first.message);
        bad += result < 0;
    }
    if (bad)
        return drafter_error_set(err, EBADMSG,
                                 "%" PRIu64 " of %" PRIu64 " pages are wrong; first: %s", bad,
                                 oracle->pages, first.message);
    return 0;
}
