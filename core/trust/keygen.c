/* SPDX-License-Identifier: BSD-2-Clause */
#include "trust/keygen.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PEM_MAX 2048

/* Everything of the structures of RFC 8410 that is in front of the key. */
static const uint8_t private_prefix[] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                         0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};

/* RFC 7468: lines of 64 characters. */
static size_t encode_pem(const char *label, const uint8_t *der, size_t length, char ret_pem[PEM_MAX])
{
    char base64[PEM_MAX / 2];
    int used = snprintf(ret_pem, PEM_MAX, "-----BEGIN %s-----\n", label);

    sodium_bin2base64(base64, sizeof(base64), der, length, sodium_base64_VARIANT_ORIGINAL);
    for (const char *at = base64; *at; at += strnlen(at, 64))
        used += snprintf(ret_pem + used, (size_t)(PEM_MAX - used), "%.64s\n", at);
    used += snprintf(ret_pem + used, (size_t)(PEM_MAX - used), "-----END %s-----\n", label);
    sodium_memzero(base64, sizeof(base64));
    return (size_t)used;
}

static int write_new(const char *path, const char *suffix, unsigned mode, const char *text,
                     size_t length, struct drafter_error *err)
{
    cleanup_free char *name = NULL;
    cleanup_close int fd = -1;
    int rc;

    if (asprintf(&name, "%s%s", path, suffix) < 0) {
        name = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", name);
    rc = io_write_full(fd, text, length);
    if (!rc && fsync(fd) < 0)
        rc = -errno;
    if (!rc)
        rc = io_sync_parent(name);
    if (rc)
        unlink(name);
    return rc ? drafter_error_errno(err, -rc, "%s", name) : 0;
}

static int refuse_existing(const char *path, struct drafter_error *err)
{
    static const char *const suffixes[] = {".key", ".pub", ".crt"};

    for (unsigned i = 0; i < 3; i++) {
        cleanup_free char *name = NULL;

        if (asprintf(&name, "%s%s", path, suffixes[i]) < 0) {
            name = NULL;
            return drafter_error_set(err, ENOMEM, "out of memory");
        }
        if (access(name, F_OK) == 0)
            return drafter_error_set(err, EEXIST, "%s is there already", name);
    }
    return 0;
}

static int write_public(const char *path, const uint8_t *seed, const uint8_t *public_key, char *pem,
                        struct drafter_error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    uint8_t spki[KEYGEN_SPKI_SIZE], certificate[KEYGEN_CERTIFICATE_MAX];
    size_t length;
    int rc;

    keygen_public(public_key, spki);
    length = encode_pem("PUBLIC KEY", spki, sizeof(spki), pem);
    rc = write_new(path, ".pub", 0644, pem, length, err);
    if (rc)
        return rc;
    length = keygen_certificate(seed, name, (int64_t)time(NULL), certificate);
    length = encode_pem("CERTIFICATE", certificate, length, pem);
    return write_new(path, ".crt", 0644, pem, length, err);
}

int keygen_write(const char *path, char ret_identity[DRAFTER_IDENTITY_SIZE],
                 struct drafter_error *err)
{
    struct {
        uint8_t der[sizeof(private_prefix) + KEYGEN_SEED_SIZE];
        uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
        char pem[PEM_MAX];
    } *key;
    uint8_t *seed;
    size_t length;
    int rc = refuse_existing(path, err);

    if (rc)
        return rc;
    if (sodium_init() < 0 || !(key = sodium_malloc(sizeof(*key))))
        return drafter_error_set(err, ENOMEM, "no random numbers, or no locked memory");
    seed = key->der + sizeof(private_prefix);
    memcpy(key->der, private_prefix, sizeof(private_prefix));
    randombytes_buf(seed, KEYGEN_SEED_SIZE);
    crypto_sign_seed_keypair(key->public_key, key->secret_key, seed);
    keygen_identity(key->public_key, ret_identity);
    length = encode_pem("PRIVATE KEY", key->der, sizeof(key->der), key->pem);
    rc = write_new(path, ".key", 0600, key->pem, length, err);
    if (!rc)
        rc = write_public(path, seed, key->public_key, key->pem, err);
    sodium_free(key);
    return rc;
}

/* The first PEM block of a text: its bytes, or -EINVAL. */
static int decode_pem(const char *text, const char *label, uint8_t *bytes, size_t size,
                      size_t *ret_length)
{
    char begin[64];
    const char *at, *end;

    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    at = strstr(text, begin);
    end = at ? strstr(at + 1, "-----END ") : NULL;
    if (!end || sodium_base642bin(bytes, size, at + strlen(begin), (size_t)(end - at) - strlen(begin),
                                  "\r\n \t", ret_length, NULL, sodium_base64_VARIANT_ORIGINAL))
        return -EINVAL;
    return 0;
}

int keygen_read(const char *path, uint8_t ret_seed[KEYGEN_SEED_SIZE], struct drafter_error *err)
{
    uint8_t der[sizeof(private_prefix) + KEYGEN_SEED_SIZE];
    size_t length, got;
    char *text;
    int rc = io_read_file(path, PEM_MAX, &text, &length, err);

    if (rc)
        return rc;
    rc = decode_pem(text, "PRIVATE KEY", der, sizeof(der), &got);
    sodium_memzero(text, length);
    free(text);
    if (!rc && (got != sizeof(der) || memcmp(der, private_prefix, sizeof(private_prefix)) != 0))
        rc = -EINVAL;
    if (!rc)
        memcpy(ret_seed, der + sizeof(private_prefix), KEYGEN_SEED_SIZE);
    sodium_memzero(der, sizeof(der));
    return rc ? drafter_error_set(err, EINVAL, "%s: no Ed25519 key as drafter keygen makes it", path)
              : 0;
}
