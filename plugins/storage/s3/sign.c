/* SPDX-License-Identifier: BSD-2-Clause */
#include "sign.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define CANONICAL_MAX 8192

static void hex(const uint8_t *bytes, size_t count, char *text)
{
    sodium_bin2hex(text, 2 * count + 1, bytes, count);
}

void sign_hash(const void *data, size_t length, char text[SIGN_HASH_TEXT])
{
    uint8_t hash[crypto_hash_sha256_BYTES];

    crypto_hash_sha256(hash, data, length);
    hex(hash, sizeof hash, text);
}

void sign_date(time_t when, char text[17])
{
    struct tm tm;

    if (!gmtime_r(&when, &tm) || strftime(text, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
        snprintf(text, 17, "19700101T000000Z");
}

int sign_encode(const char *text, int keep_slash, char *encoded, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    size_t n = 0;

    for (; *text; text++) {
        uint8_t byte = (uint8_t)*text;

        if (n + 4 > size)
            return -ENAMETOOLONG;
        if (strchr(unreserved, *text) || (keep_slash && *text == '/')) {
            encoded[n++] = *text;
        } else {
            encoded[n++] = '%';
            encoded[n++] = digits[byte >> 4];
            encoded[n++] = digits[byte & 15];
        }
    }
    encoded[n] = '\0';
    return 0;
}

static void hmac(const uint8_t *key, size_t key_length, const char *text, uint8_t out[32])
{
    crypto_auth_hmacsha256_state state; /* init takes keys of any length */

    crypto_auth_hmacsha256_init(&state, key, key_length);
    crypto_auth_hmacsha256_update(&state, (const uint8_t *)text, strlen(text));
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* The signing key: secret, then date, region, service and terminator, one HMAC each. */
static void derive(const char *secret, const char *day, const char *region, uint8_t key[32])
{
    char first[4 + sizeof((struct sign_credentials *)0)->secret_key];

    snprintf(first, sizeof first, "AWS4%s", secret);
    hmac((const uint8_t *)first, strlen(first), day, key);
    hmac(key, 32, region, key);
    hmac(key, 32, "s3", key);
    hmac(key, 32, "aws4_request", key);
    sodium_memzero(first, sizeof first);
}

static const char *signed_headers(const struct sign_request *request,
                                  const struct sign_credentials *credentials)
{
    static const char *const lists[] = {
        "host;x-amz-content-sha256;x-amz-date",
        "host;x-amz-content-sha256;x-amz-date;x-amz-meta-drafter",
        "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "host;x-amz-content-sha256;x-amz-date;x-amz-meta-drafter;x-amz-security-token",
    };

    return lists[(request->tag ? 1 : 0) + (*credentials->session_token ? 2 : 0)];
}

static int canonical_hash(const struct sign_request *request,
                          const struct sign_credentials *credentials, const char *date,
                          char text[SIGN_HASH_TEXT])
{
    char canonical[CANONICAL_MAX];
    int token = *credentials->session_token != '\0';
    const char *tag = request->tag;
    int n = snprintf(canonical, sizeof canonical,
                     "%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n%s%s%s%s%s%s\n%s\n%s",
                     request->method, request->path, request->query, request->host,
                     request->payload_hash, date, tag ? "x-amz-meta-drafter:" : "", tag ? tag : "",
                     tag ? "\n" : "", token ? "x-amz-security-token:" : "",
                     credentials->session_token, token ? "\n" : "",
                     signed_headers(request, credentials), request->payload_hash);

    if (n < 0 || (size_t)n >= sizeof canonical)
        return -ENAMETOOLONG;
    sign_hash(canonical, (size_t)n, text);
    sodium_memzero(canonical, sizeof canonical);
    return 0;
}

int sign_authorize(const struct sign_request *request, const struct sign_credentials *credentials,
                   char *value, size_t size)
{
    char date[17], day[9], canonical[SIGN_HASH_TEXT], scope[128], to_sign[512], signature[65];
    uint8_t key[32];
    int n, rc;

    sign_date(request->when, date);
    snprintf(day, sizeof day, "%.8s", date);
    rc = canonical_hash(request, credentials, date, canonical);
    if (rc)
        return rc;
    n = snprintf(scope, sizeof scope, "%s/%s/s3/aws4_request", day, request->region);
    if (n < 0 || (size_t)n >= sizeof scope)
        return -ENAMETOOLONG;
    snprintf(to_sign, sizeof to_sign, ALGORITHM "\n%s\n%s\n%s", date, scope, canonical);
    derive(credentials->secret_key, day, request->region, key);
    hmac(key, sizeof key, to_sign, key);
    hex(key, sizeof key, signature);
    n = snprintf(value, size, ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                 credentials->access_key, scope, signed_headers(request, credentials), signature);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}
