/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Somebody sits in the middle: every byte of every handshake is changed, lost, repeated and turned with the next,
 * every record dropped, doubled, swapped and cut.  Whatever he does, the two never both come to an end with him in
 * between, unless what he changed was without meaning (the version in a plaintext record's header, which RFC 8446
 * has ignored).
 */
#include "../unit/unit.h"
#include "pair.h"

static struct pair *pair;

static void setup(void)
{
    pair = pair_new();
}

static void teardown(void)
{
    pair_free(pair);
}

enum attack {
    FLIP,   /* a bit of the byte at `offset` of the flight */
    LOSE,   /* the byte */
    REPEAT, /* the byte */
    TURN,   /* it and the one behind it */
    DROP,   /* the record */
    DOUBLE, /* the record comes twice */
    SWAP,   /* with the one behind it */
    CUT,    /* its last byte is missing */
};

struct plan {
    enum attack attack;
    unsigned flight; /* which */
    size_t at;       /* offset or record */
    uint8_t bits;
    unsigned seen; /* flights so far */
    bool done, harmless;
};

static void remove_bytes(struct pair_wire *wire, size_t at, size_t length)
{
    size_t end = wire->starts[wire->count];

    memmove(wire->bytes + at, wire->bytes + at + length, end - at - length);
}

static void rescan(struct pair_wire *wire, size_t end)
{
    size_t done = 0;

    wire->count = 0;
    while (done + 5 <= end) {
        size_t length = 5 + ((size_t)wire->bytes[done + 3] << 8 | wire->bytes[done + 4]);

        if (length > end - done || wire->count == PAIR_RECORDS)
            break;
        done += length;
        wire->starts[++wire->count] = done;
    }
}

static void flip(struct plan *plan, struct pair_wire *wire)
{
    size_t end = wire->starts[wire->count], record = 0;

    if (plan->at >= end)
        return;
    while (wire->starts[record + 1] <= plan->at)
        record++;
    /* legacy_record_version means nothing (section 5.1); sealed records have it in their AAD */
    plan->harmless = plan->at - wire->starts[record] == 2 && wire->bytes[wire->starts[record]] != 23;
    wire->bytes[plan->at] ^= plan->bits;
    plan->done = true;
    rescan(wire, end);
}

/* A byte is gone, there twice, or in the place of the next. */
static void displace(struct plan *plan, struct pair_wire *wire)
{
    size_t end = wire->starts[wire->count];
    uint8_t *byte = wire->bytes + plan->at, kept = *byte;

    if (plan->at >= end || (plan->attack == TURN && plan->at + 1 >= end))
        return;
    plan->done = true;
    if (plan->attack == LOSE) {
        remove_bytes(wire, plan->at, 1);
        rescan(wire, end - 1);
    } else if (plan->attack == REPEAT) {
        memmove(byte + 1, byte, end - plan->at);
        /* All is as it was, and one byte behind it: that begins another record, which never comes. */
        plan->harmless = true;
        for (size_t i = plan->at; i < end; i++)
            plan->harmless &= wire->bytes[i] == kept;
        rescan(wire, end + 1);
    } else {
        plan->harmless = kept == byte[1];
        byte[0] = byte[1];
        byte[1] = kept;
        rescan(wire, end);
    }
}

static void rearrange(struct plan *plan, struct pair_wire *wire)
{
    size_t begin, length, end = wire->starts[wire->count];
    uint8_t copy[PAIR_BYTES];

    if (plan->at >= wire->count || (plan->attack == SWAP && plan->at + 1 >= wire->count))
        return;
    begin = wire->starts[plan->at];
    length = wire->starts[plan->at + 1] - begin;
    plan->done = true;
    /* Records of change_cipher_spec are to be ignored, however often they come. */
    plan->harmless = wire->bytes[begin] == 20;
    memcpy(copy, wire->bytes + begin, length);
    if (plan->attack == DROP) {
        remove_bytes(wire, begin, length);
        rescan(wire, end - length);
    } else if (plan->attack == CUT) {
        remove_bytes(wire, begin + length - 1, 1);
        rescan(wire, end - 1);
    } else if (plan->attack == DOUBLE) {
        memmove(wire->bytes + begin + length, wire->bytes + begin, end - begin);
        rescan(wire, end + length);
    } else {
        size_t next = wire->starts[plan->at + 2] - wire->starts[plan->at + 1];

        memmove(wire->bytes + begin, wire->bytes + begin + length, next);
        memcpy(wire->bytes + begin + next, copy, length);
        rescan(wire, end);
    }
}

static void attack(void *opaque, bool to_server, struct pair_wire *wire)
{
    struct plan *plan = opaque;

    (void)to_server;
    if (plan->seen++ != plan->flight || !wire->count)
        return;
    if (plan->attack == FLIP)
        flip(plan, wire);
    else if (plan->attack < DROP)
        displace(plan, wire);
    else
        rearrange(plan, wire);
}

/* The tickets come after the handshake: what is done to them is found by the reader of data, not here. */
static bool is_ticket(const struct plan *plan)
{
    return plan->flight >= 3;
}

/* Runs one attack; false when there is nothing at that place. */
static bool survive(struct plan plan, const struct tls_session *session, const struct tls_psk *psk)
{
    pair_begin(pair, session, psk);
    pair_run(pair, attack, &plan);
    if (!plan.done)
        return false;
    ck_assert_msg(plan.harmless || !pair_agrees(pair), "attack %d on flight %u at %zu was not noticed",
                  plan.attack, plan.flight, plan.at);
    return true;
}

static unsigned try_all(const struct tls_session *session, const struct tls_psk *psk)
{
    static const uint8_t bits[] = {0x01, 0x80};
    unsigned attacks = 0;

    for (unsigned flight = 0; flight < 3; flight++) {
        for (size_t at = 0;; at++) {
            struct plan plan = {.attack = FLIP, .flight = flight, .at = at, .bits = bits[at % 2]};

            if (is_ticket(&plan) || !survive(plan, session, psk))
                break;
            attacks++;
        }
        for (enum attack kind = LOSE; kind <= CUT; kind++)
            for (size_t at = 0; survive((struct plan){.attack = kind, .flight = flight, .at = at},
                                        session, psk); at++)
                attacks++;
    }
    return attacks;
}

START_TEST(no_attack_on_raw_keys_is_missed)
{
    ck_assert_uint_gt(try_all(NULL, NULL), 2000);
}
END_TEST

START_TEST(no_attack_on_certificates_is_missed)
{
    pair->client.credentials->has_key = pair->server.credentials->has_key = false;
    ck_assert_uint_gt(try_all(NULL, NULL), 4000);
}
END_TEST

START_TEST(no_attack_on_shared_keys_is_missed)
{
    struct tls_psk *psk = &pair->client.credentials->psks[0];

    *psk = (struct tls_psk){.identity = "node", .key = {7}, .length = 32};
    pair->server.credentials->psks[0] = *psk;
    pair->client.credentials->psk_count = pair->server.credentials->psk_count = 1;
    ck_assert_uint_gt(try_all(NULL, psk), 1200);
}
END_TEST

START_TEST(no_attack_on_a_resumption_is_missed)
{
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    ck_assert_uint_gt(try_all(&pair->session, NULL), 1200);
}
END_TEST

/* Without an attack the same runs do come to an end. */
START_TEST(the_attacks_are_the_reason)
{
    struct plan none = {.attack = DROP, .flight = 99};

    pair_begin(pair, NULL, NULL);
    pair_run(pair, attack, &none);
    ck_assert(pair_agrees(pair));
}
END_TEST

START_TEST(a_peer_that_says_too_much_is_cut_off)
{
    uint8_t record[5 + 4000] = {22, 3, 3, 4000 >> 8, 4000 & 0xff, 1, 0, 0x20, 0};
    int rc = 0, given = 0;

    pair_begin(pair, NULL, NULL);
    while (!rc && given < 10) {
        rc = pair_give(&pair->server, record, sizeof(record));
        given++;
    }
    ck_assert_int_lt(rc, 0);
    ck_assert_int_lt(given, 5);
    ck_assert_uint_le(pair->server.handshake.received, TLS_HANDSHAKE_LIMIT + sizeof(record));
}
END_TEST

START_TEST(noise_is_refused)
{
    for (int i = 0; i < 5000; i++) {
        uint8_t record[64];

        randombytes_buf(record, sizeof(record));
        if (i % 2) {
            memcpy(record, "\x16\x03\x03\0\x3b\1\0\0\x37\3\3", 11);
        }
        pair_begin(pair, NULL, NULL);
        pair_give(&pair->server, record, sizeof(record));
        ck_assert_int_ne(pair->server.handshake.state, TLS_DONE);
        pair_give(&pair->client, record, sizeof(record));
        ck_assert_int_ne(pair->client.handshake.state, TLS_DONE);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_attacks_are_the_reason);
    tcase_add_test(tests, no_attack_on_raw_keys_is_missed);
    tcase_add_test(tests, no_attack_on_certificates_is_missed);
    tcase_add_test(tests, no_attack_on_shared_keys_is_missed);
    tcase_add_test(tests, no_attack_on_a_resumption_is_missed);
    tcase_add_test(tests, a_peer_that_says_too_much_is_cut_off);
    tcase_add_test(tests, noise_is_refused);
}

int main(void)
{
    return unit_run("tls-attacks", add_tests);
}
