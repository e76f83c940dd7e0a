/* SPDX-License-Identifier: BSD-2-Clause */
/* Certificates: what keygen makes is read back, and nothing else slips through. */
#include "../unit/unit.h"
#include "alert.h"
#include "trust/keygen.h"
#include "x509.h"

#include <sodium.h>

#define NOW INT64_C(1800000000) /* 2027-01-15 08:00:00 UTC */

static uint8_t seed[KEYGEN_SEED_SIZE] = {1, 2, 3}, der[KEYGEN_CERTIFICATE_MAX + 1];
static size_t length;
static struct tls_certificate certificate;
static const char *reason;

static void setup(void)
{
    length = keygen_certificate(seed, "host-a", NOW, der);
}

static int parse(void)
{
    return tls_certificate_parse(der, length, &certificate, &reason);
}

/* Signs what was changed anew, so that only the change can be the reason of a refusal. */
static void sign_again(void)
{
    uint8_t public_key[32], secret_key[64];
    size_t tbs = der[1] == 0x82 ? 4 : 3;

    crypto_sign_seed_keypair(public_key, secret_key, seed);
    crypto_sign_detached(der + length - 64, NULL, der + tbs, length - tbs - 64 - 10, secret_key);
}

static uint8_t *find(const char *bytes, size_t size)
{
    uint8_t *found = memmem(der, length, bytes, size);

    ck_assert_ptr_nonnull(found);
    return found;
}

START_TEST(a_certificate_of_keygen_is_understood)
{
    uint8_t public_key[32], secret_key[64];

    crypto_sign_seed_keypair(public_key, secret_key, seed);
    ck_assert_msg(parse() == TLS_OK, "%s", reason);
    ck_assert_int_eq(memcmp(certificate.public_key, public_key, 32), 0);
    ck_assert_int_eq(certificate.not_before, NOW - 86400);
    ck_assert_int_eq(certificate.not_after, INT64_C(253402300799));
    ck_assert(certificate.for_clients && certificate.for_servers);
    sign_again(); /* changes nothing: Ed25519 has one signature */
    ck_assert_int_eq(parse(), TLS_OK);
}
END_TEST

START_TEST(no_byte_can_be_changed)
{
    for (size_t i = 0; i < length * 8; i++) {
        der[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_msg(parse() != TLS_OK, "bit %zu", i);
        ck_assert_str_ne(reason, "");
        der[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}
END_TEST

START_TEST(nothing_can_be_cut_off_or_added)
{
    size_t whole = length;

    for (length = 0; length < whole; length++)
        ck_assert_int_ne(parse(), TLS_OK);
    length = whole + 1;
    ck_assert_int_ne(parse(), TLS_OK);
}
END_TEST

START_TEST(dates_that_do_not_exist_are_refused)
{
    static const char *const dates[] = {"99991331235959Z", "99990230235959Z", "99991231245959Z",
                                        "99991231236059Z", "9999123123595 Z", "99991231235959z"};

    memcpy(find("99991231235959Z", 15), dates[_i], 15);
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_BAD_CERTIFICATE);
}
END_TEST

START_TEST(leap_days_exist_in_leap_years_alone)
{
    memcpy(find("99991231235959Z", 15), "20280229000000Z", 15);
    sign_again();
    ck_assert_int_eq(parse(), TLS_OK);
    ck_assert_int_eq(certificate.not_after, INT64_C(1835395200));
    memcpy(find("20280229000000Z", 15), "21000229000000Z", 15);
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_BAD_CERTIFICATE);
}
END_TEST

START_TEST(a_key_that_may_not_sign_is_refused)
{
    find("\x03\x02\x02\x84", 4)[3] = 0x04;
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_BAD_CERTIFICATE);
    ck_assert_ptr_nonnull(strstr(reason, "signatures"));
}
END_TEST

START_TEST(an_unknown_critical_extension_is_refused)
{
    find("\x55\x1d\x13", 3)[2] = 0x1e; /* name constraints */
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_UNSUPPORTED_CERTIFICATE);
}
END_TEST

START_TEST(an_extension_that_is_there_twice_is_refused)
{
    find("\x55\x1d\x0f", 3)[2] = 0x13;
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_BAD_CERTIFICATE);
}
END_TEST

START_TEST(version_1_is_refused)
{
    find("\xa0\x03\x02\x01\x02", 5)[4] = 0;
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_BAD_CERTIFICATE);
}
END_TEST

START_TEST(other_algorithms_are_refused)
{
    find("\x2b\x65\x70", 3)[2] = 0x71; /* Ed448 */
    sign_again();
    ck_assert_int_eq(parse(), TLS_ALERT_UNSUPPORTED_CERTIFICATE);
}
END_TEST

START_TEST(a_raw_key_is_read_and_nothing_like_it)
{
    uint8_t spki[TLS_SPKI_SIZE], key[TLS_PUBLIC_KEY_SIZE];

    tls_spki_encode(seed, spki);
    ck_assert_int_eq(tls_spki_parse(spki, sizeof(spki), key, &reason), TLS_OK);
    ck_assert_int_eq(memcmp(key, seed, sizeof(key)), 0);
    for (size_t i = 0; i < 12 * 8; i++) { /* all but the key itself */
        spki[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_ne(tls_spki_parse(spki, sizeof(spki), key, &reason), TLS_OK);
        spki[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t size = 0; size < sizeof(spki); size++)
        ck_assert_int_ne(tls_spki_parse(spki, size, key, &reason), TLS_OK);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, a_certificate_of_keygen_is_understood);
    tcase_add_test(tests, no_byte_can_be_changed);
    tcase_add_test(tests, nothing_can_be_cut_off_or_added);
    tcase_add_loop_test(tests, dates_that_do_not_exist_are_refused, 0, 6);
    tcase_add_test(tests, leap_days_exist_in_leap_years_alone);
    tcase_add_test(tests, a_key_that_may_not_sign_is_refused);
    tcase_add_test(tests, an_unknown_critical_extension_is_refused);
    tcase_add_test(tests, an_extension_that_is_there_twice_is_refused);
    tcase_add_test(tests, version_1_is_refused);
    tcase_add_test(tests, other_algorithms_are_refused);
    tcase_add_test(tests, a_raw_key_is_read_and_nothing_like_it);
}

int main(void)
{
    return sodium_init() < 0 ? EXIT_FAILURE : unit_run("tls-x509", add_tests);
}
