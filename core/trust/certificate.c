/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes the one form of certificate that drafter makes. */
#include "trust/keygen.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NAME_MAX_LENGTH 60 /* ub-common-name is 64 */

/* DER is written from its end to its front: so each length is known when it is needed. */
struct der {
    uint8_t *start, *at;
};

static void put(struct der *der, const void *bytes, size_t length)
{
    der->at -= length;
    memcpy(der->at, bytes, length);
}

static void put_byte(struct der *der, unsigned byte)
{
    const uint8_t value = (uint8_t)byte;

    put(der, &value, 1);
}

/* Tag and length of all that was put since `end`. */
static void wrap(struct der *der, unsigned tag, const uint8_t *end)
{
    size_t length = (size_t)(end - der->at);

    put_byte(der, (unsigned)length & 0xff);
    if (length >= 0x100)
        put_byte(der, (unsigned)length >> 8);
    if (length >= 0x80)
        put_byte(der, length >= 0x100 ? 0x82 : 0x81);
    put_byte(der, tag);
}

static void put_algorithm(struct der *der)
{
    static const uint8_t ed25519[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};

    put(der, ed25519, sizeof(ed25519));
}

/* Name: one relative distinguished name, the common name. */
static void put_name(struct der *der, const char *name)
{
    static const uint8_t common_name[] = {0x06, 0x03, 0x55, 0x04, 0x03};
    const uint8_t *end = der->at;

    put(der, name, strnlen(name, NAME_MAX_LENGTH));
    wrap(der, 0x0c, end); /* UTF8String */
    put(der, common_name, sizeof(common_name));
    wrap(der, 0x30, end);
    wrap(der, 0x31, end);
    wrap(der, 0x30, end);
}

/* An hour of yesterday on, for clocks that are behind, to the end that RFC 5280, 4.1.2.5 has for none. */
static void put_validity(struct der *der, int64_t now)
{
    static const char never[] = "99991231235959Z";
    time_t begin = (time_t)now - 86400;
    const uint8_t *end = der->at, *field;
    struct tm tm;
    char text[32];

    put(der, never, sizeof(never) - 1);
    wrap(der, 0x18, end);
    field = der->at;
    gmtime_r(&begin, &tm);
    if (tm.tm_year < 150) {
        strftime(text, sizeof(text), "%y%m%d%H%M%SZ", &tm);
        put(der, text, strlen(text));
        wrap(der, 0x17, field);
    } else {
        strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm);
        put(der, text, strlen(text));
        wrap(der, 0x18, field);
    }
    wrap(der, 0x30, end);
}

static void put_public_key(struct der *der, const uint8_t public_key[KEYGEN_KEY_SIZE])
{
    const uint8_t *end = der->at;

    put(der, public_key, KEYGEN_KEY_SIZE);
    put_byte(der, 0);
    wrap(der, 0x03, end);
    put_algorithm(der);
    wrap(der, 0x30, end);
}

/* Key usage digitalSignature and basic constraints (it is its own authority), both critical. */
static void put_extensions(struct der *der)
{
    static const uint8_t extensions[] = {
        0x30, 0x0f, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff,
        0x30, 0x0e, 0x06, 0x03, 0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x02, 0x84};
    const uint8_t *end = der->at;

    put(der, extensions, sizeof(extensions));
    wrap(der, 0x30, end);
    wrap(der, 0xa3, end);
}

static void put_tbs(struct der *der, const uint8_t public_key[KEYGEN_KEY_SIZE], const char *name,
                    int64_t now)
{
    static const uint8_t version[] = {0xa0, 0x03, 0x02, 0x01, 0x02};
    const uint8_t *end = der->at, *field;
    uint8_t serial[16];

    put_extensions(der);
    put_public_key(der, public_key);
    put_name(der, name);
    put_validity(der, now);
    put_name(der, name);
    put_algorithm(der);
    randombytes_buf(serial, sizeof(serial));
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and no zeros in front */
    field = der->at;
    put(der, serial, sizeof(serial));
    wrap(der, 0x02, field);
    put(der, version, sizeof(version));
    wrap(der, 0x30, end);
}

size_t keygen_certificate(const uint8_t seed[KEYGEN_SEED_SIZE], const char *name, int64_t now,
                          uint8_t ret_der[KEYGEN_CERTIFICATE_MAX])
{
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
    uint8_t tbs[KEYGEN_CERTIFICATE_MAX], signature[crypto_sign_BYTES];
    struct der inner = {.start = tbs, .at = tbs + sizeof(tbs)};
    struct der outer = {.start = ret_der, .at = ret_der + KEYGEN_CERTIFICATE_MAX};
    const uint8_t *end = outer.at, *field;
    size_t length;

    crypto_sign_seed_keypair(public_key, secret_key, seed);
    put_tbs(&inner, public_key, name, now);
    length = (size_t)(tbs + sizeof(tbs) - inner.at);
    crypto_sign_detached(signature, NULL, inner.at, length, secret_key);
    sodium_memzero(secret_key, sizeof(secret_key));
    field = outer.at;
    put(&outer, signature, sizeof(signature));
    put_byte(&outer, 0);
    wrap(&outer, 0x03, field);
    put_algorithm(&outer);
    put(&outer, inner.at, length);
    wrap(&outer, 0x30, end);
    length = (size_t)(end - outer.at);
    memmove(ret_der, outer.at, length);
    return length;
}
