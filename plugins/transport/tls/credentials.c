/* SPDX-License-Identifier: BSD-2-Clause */
#include "credentials.h"

#include "alert.h"
#include "der.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX 65536

struct tls_credentials *tls_credentials_new(void)
{
    struct tls_credentials *credentials = sodium_malloc(sizeof(*credentials));

    if (credentials)
        memset(credentials, 0, sizeof(*credentials));
    return credentials;
}

void tls_credentials_free(struct tls_credentials *credentials)
{
    sodium_free(credentials);
}

/* A text in locked memory, with a NUL behind it; `secret` files must be for their owner alone. */
static int read_text(const char *path, bool secret, char **ret_text, struct drafter_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    struct stat status;
    ssize_t done = 0, used = 0;
    char *text;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    text = sodium_malloc(FILE_MAX + 1);
    if (!text)
        rc = drafter_error_errno(err, ENOMEM, "%s", path);
    else if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        rc = drafter_error_set(err, EINVAL, "%s: not a file", path);
    else if (secret && status.st_mode & 077)
        rc = drafter_error_set(err, EACCES, "%s: others may read this secret; chmod 600 it", path);
    while (!rc && used <= FILE_MAX && (done = read(fd, text + used, (size_t)(FILE_MAX + 1 - used))) > 0)
        used += done;
    close(fd);
    if (!rc && done < 0)
        rc = drafter_error_errno(err, errno, "%s", path);
    if (!rc && used > FILE_MAX)
        rc = drafter_error_set(err, EFBIG, "%s: too long", path);
    if (rc) {
        sodium_free(text);
        return rc;
    }
    text[used] = '\0';
    *ret_text = text;
    return 0;
}

/* The bytes of the first block "-----BEGIN label-----". */
static int read_pem(const char *path, const char *label, bool secret, uint8_t *ret_der, size_t size,
                    size_t *ret_length, struct drafter_error *err)
{
    char begin[64], end[64], *text, *from, *to;
    int rc = read_text(path, secret, &text, err);

    if (rc)
        return rc;
    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    snprintf(end, sizeof(end), "-----END %s-----", label);
    from = strstr(text, begin);
    to = from ? strstr(from, end) : NULL;
    if (!to || sodium_base642bin(ret_der, size, from + strlen(begin),
                                 (size_t)(to - from) - strlen(begin), " \r\n\t", ret_length, NULL,
                                 sodium_base64_VARIANT_ORIGINAL))
        rc = drafter_error_set(err, EINVAL, "%s: there is no valid block \"%s\" in it", path, begin);
    sodium_free(text);
    return rc;
}

/* OneAsymmetricKey of RFC 8410, section 7: the seed, in an OCTET STRING in an OCTET STRING. */
static bool parse_private_key(const uint8_t *der, size_t length, uint8_t seed[crypto_sign_SEEDBYTES])
{
    struct tls_reader reader = tls_reader(der, length), key = der_get(&reader, DER_SEQUENCE);
    struct tls_reader version = der_get(&key, DER_INTEGER), algorithm = der_get(&key, DER_SEQUENCE);
    struct tls_reader oid = der_get(&algorithm, DER_OID), outer = der_get(&key, DER_OCTET_STRING);
    struct tls_reader inner = der_get(&outer, DER_OCTET_STRING);

    if (!tls_read_all(&reader) || key.failed || version.left != 1 || version.at[0] > 1 ||
        !der_equals(&oid, "\x2b\x65\x70", 3) || !tls_read_all(&outer) ||
        inner.left != crypto_sign_SEEDBYTES)
        return false;
    memcpy(seed, inner.at, crypto_sign_SEEDBYTES);
    return true;
}

int tls_load_key(struct tls_credentials *credentials, const char *path, struct drafter_error *err)
{
    uint8_t der[256], seed[crypto_sign_SEEDBYTES], public[crypto_sign_PUBLICKEYBYTES];
    size_t length = 0;
    int rc = read_pem(path, "PRIVATE KEY", true, der, sizeof(der), &length, err);

    if (!rc && !parse_private_key(der, length, seed))
        rc = drafter_error_set(err, EINVAL, "%s: not an Ed25519 key; make one with drafter keygen",
                               path);
    if (!rc) {
        crypto_sign_seed_keypair(public, credentials->secret_key, seed);
        tls_spki_encode(public, credentials->spki);
        credentials->has_key = true;
    }
    sodium_memzero(der, sizeof(der));
    sodium_memzero(seed, sizeof(seed));
    return rc;
}

int tls_load_certificate(struct tls_credentials *credentials, const char *path,
                         struct drafter_error *err)
{
    struct tls_certificate certificate;
    const char *reason;
    int rc = read_pem(path, "CERTIFICATE", false, credentials->certificate, TLS_CERTIFICATE_MAX,
                      &credentials->certificate_length, err);

    if (rc)
        return rc;
    if (tls_certificate_parse(credentials->certificate, credentials->certificate_length, &certificate,
                              &reason) != TLS_OK)
        return drafter_error_set(err, EINVAL, "%s: %s", path, reason);
    if (memcmp(certificate.public_key, credentials->secret_key + 32, TLS_PUBLIC_KEY_SIZE))
        return drafter_error_set(err, EINVAL, "%s: it is the certificate of another key", path);
    credentials->has_certificate = true;
    return 0;
}

/* One line without its end; 1 when it held a key, 0 when it is empty, else an error. */
static int parse_psk(char *line, struct tls_psk *psk)
{
    char *colon = strchr(line, ':');
    int rc = 1;

    if (*line == '#' || !line[strspn(line, " \t\r")])
        return 0;
    if (!colon || colon == line || colon - line > TLS_PSK_IDENTITY_MAX)
        return -EINVAL;
    for (const char *at = line; at < colon; at++)
        if (*at <= ' ' || *at > '~')
            return -EINVAL;
    memcpy(psk->identity, line, (size_t)(colon - line));
    psk->identity[colon - line] = '\0';
    colon[1 + strcspn(colon + 1, " \t\r")] = '\0';
    if (sodium_hex2bin(psk->key, sizeof(psk->key), colon + 1, strlen(colon + 1), NULL, &psk->length,
                       NULL) ||
        strlen(colon + 1) != 2 * psk->length || psk->length < TLS_PSK_MIN)
        rc = -EINVAL;
    return rc;
}

int tls_load_psks(struct tls_credentials *credentials, const char *path, struct drafter_error *err)
{
    unsigned number = 0;
    char *text, *line;
    int rc = read_text(path, true, &text, err);

    if (rc)
        return rc;
    line = text;
    while (!rc && line) {
        char *end = strchr(line, '\n');

        if (end)
            *end = '\0';
        number++;
        if (credentials->psk_count == TLS_PSK_COUNT_MAX)
            rc = drafter_error_set(err, E2BIG, "%s: more than %d keys", path, TLS_PSK_COUNT_MAX);
        else
            rc = parse_psk(line, &credentials->psks[credentials->psk_count]);
        if (rc == -EINVAL)
            rc = drafter_error_set(err, EINVAL,
                                   "%s:%u: write identity:key, the key in hexadecimal, 16 to 64 bytes",
                                   path, number);
        if (rc > 0) {
            credentials->psk_count++;
            rc = 0;
        }
        line = end ? end + 1 : NULL;
    }
    sodium_free(text);
    if (!rc && !credentials->psk_count)
        rc = drafter_error_set(err, EINVAL, "%s: there is no key in it", path);
    return rc;
}

void tls_key_identity(const uint8_t key[TLS_PUBLIC_KEY_SIZE], char ret_identity[TLS_IDENTITY_SIZE])
{
    uint8_t spki[TLS_SPKI_SIZE], hash[crypto_hash_sha256_BYTES];
    static const char prefix[] = "sha256:";

    tls_spki_encode(key, spki);
    crypto_hash_sha256(hash, spki, sizeof(spki));
    memcpy(ret_identity, prefix, sizeof(prefix));
    sodium_bin2base64(ret_identity + sizeof(prefix) - 1, TLS_IDENTITY_SIZE - sizeof(prefix) + 1, hash,
                      sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
}

const struct tls_psk *tls_psk_find(const struct tls_credentials *credentials, const uint8_t *identity,
                                   size_t length)
{
    for (unsigned i = 0; i < credentials->psk_count; i++)
        if (strlen(credentials->psks[i].identity) == length &&
            !memcmp(credentials->psks[i].identity, identity, length))
            return &credentials->psks[i];
    return NULL;
}
