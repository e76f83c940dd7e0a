/* SPDX-License-Identifier: BSD-2-Clause */
#include "x509.h"

#include "alert.h"
#include "der.h"

#include <sodium.h>

#define EXTENSIONS_MAX 32

static const uint8_t oid_ed25519[] = {0x2b, 0x65, 0x70};
static const uint8_t spki_prefix[TLS_SPKI_SIZE - TLS_PUBLIC_KEY_SIZE] = {
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

/* AlgorithmIdentifier without parameters, as RFC 8410 demands. */
static bool is_ed25519(struct tls_reader algorithm)
{
    struct tls_reader oid = der_get(&algorithm, DER_OID);

    return der_equals(&oid, oid_ed25519, sizeof(oid_ed25519)) && tls_read_all(&algorithm);
}

static int refuse(int alert, const char *reason, const char **ret_reason)
{
    *ret_reason = reason;
    return alert;
}

int tls_spki_parse(const uint8_t *der, size_t length, uint8_t ret_key[TLS_PUBLIC_KEY_SIZE],
                   const char **ret_reason)
{
    struct tls_reader reader = tls_reader(der, length), spki = der_get(&reader, DER_SEQUENCE);
    struct tls_reader algorithm = der_get(&spki, DER_SEQUENCE), bits = der_get_bits(&spki);

    if (!tls_read_all(&reader) || !tls_read_all(&spki))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "the public key is no strict DER", ret_reason);
    if (!is_ed25519(algorithm))
        return refuse(TLS_ALERT_UNSUPPORTED_CERTIFICATE, "the public key is not an Ed25519 key",
                      ret_reason);
    if (bits.left != TLS_PUBLIC_KEY_SIZE)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "the public key has a wrong length", ret_reason);
    memcpy(ret_key, bits.at, TLS_PUBLIC_KEY_SIZE);
    return TLS_OK;
}

void tls_spki_encode(const uint8_t key[TLS_PUBLIC_KEY_SIZE], uint8_t ret_der[TLS_SPKI_SIZE])
{
    memcpy(ret_der, spki_prefix, sizeof(spki_prefix));
    memcpy(ret_der + sizeof(spki_prefix), key, TLS_PUBLIC_KEY_SIZE);
}

/* 2.5.29.37: who may use the certificate. */
static bool read_extended_key_usage(struct tls_reader value, struct tls_certificate *certificate)
{
    static const uint8_t server[] = {0x2b, 6, 1, 5, 5, 7, 3, 1}, client[] = {0x2b, 6, 1, 5, 5, 7, 3, 2};
    static const uint8_t any[] = {0x55, 0x1d, 0x25, 0x00};
    struct tls_reader list = der_get(&value, DER_SEQUENCE);

    certificate->for_clients = certificate->for_servers = false;
    if (list.left == 0)
        list.failed = true;
    while (!list.failed && list.left > 0) {
        struct tls_reader oid = der_get(&list, DER_OID);
        bool all = der_equals(&oid, any, sizeof(any));

        certificate->for_servers |= all || der_equals(&oid, server, sizeof(server));
        certificate->for_clients |= all || der_equals(&oid, client, sizeof(client));
    }
    return tls_read_all(&list) && tls_read_all(&value);
}

/* 2.5.29.15: bit 0 is digitalSignature. */
static bool read_key_usage(struct tls_reader value, bool *ret_signs)
{
    struct tls_reader bits = der_get(&value, DER_BIT_STRING);
    unsigned unused = (unsigned)tls_get_number(&bits, 1);

    *ret_signs = bits.left > 0 && bits.at[0] & 0x80;
    return !bits.failed && unused < 8 && bits.left <= 2 && tls_read_all(&value);
}

/* One Extension; those that may restrict the use and are not known here must not be critical. */
static int read_extension(struct tls_reader *list, struct tls_certificate *certificate,
                          struct tls_reader *ret_oid, const char **ret_reason)
{
    static const uint8_t key_usage[] = {0x55, 0x1d, 15}, extended[] = {0x55, 0x1d, 37};
    static const uint8_t constraints[] = {0x55, 0x1d, 19}, alternative[] = {0x55, 0x1d, 17};
    struct tls_reader extension = der_get(list, DER_SEQUENCE), oid = der_get(&extension, DER_OID);
    bool critical = false, signs = true, fine = true;
    struct tls_reader value;

    if (der_peek(&extension) == DER_BOOLEAN) {
        struct tls_reader flag = der_get(&extension, DER_BOOLEAN);

        critical = der_equals(&flag, "\xff", 1); /* false is the default, which DER leaves out */
        fine = critical;
    }
    value = der_get(&extension, DER_OCTET_STRING);
    if (!fine || !tls_read_all(&extension) || oid.failed || oid.left == 0)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "an extension is no strict DER", ret_reason);
    *ret_oid = oid;
    if (der_equals(&oid, key_usage, sizeof(key_usage)))
        fine = read_key_usage(value, &signs);
    else if (der_equals(&oid, extended, sizeof(extended)))
        fine = read_extended_key_usage(value, certificate);
    else if (critical && !der_equals(&oid, constraints, sizeof(constraints)) &&
             !der_equals(&oid, alternative, sizeof(alternative)))
        return refuse(TLS_ALERT_UNSUPPORTED_CERTIFICATE, "a critical extension is not known here",
                      ret_reason);
    if (!fine)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "a key usage is no strict DER", ret_reason);
    if (!signs)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "the key usage does not allow signatures",
                      ret_reason);
    return TLS_OK;
}

static int read_extensions(struct tls_reader *tbs, struct tls_certificate *certificate,
                           const char **ret_reason)
{
    struct tls_reader outer = der_get(tbs, DER_CONTEXT + 3), list = der_get(&outer, DER_SEQUENCE);
    struct tls_reader seen[EXTENSIONS_MAX];
    unsigned count = 0;

    if (!tls_read_all(&outer) || list.failed || list.left == 0)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "the extensions are no strict DER", ret_reason);
    while (list.left > 0) {
        int alert;

        if (count == EXTENSIONS_MAX)
            return refuse(TLS_ALERT_BAD_CERTIFICATE, "there are too many extensions", ret_reason);
        alert = read_extension(&list, certificate, &seen[count], ret_reason);
        if (alert != TLS_OK)
            return alert;
        for (unsigned i = 0; i < count; i++)
            if (der_equals(&seen[i], seen[count].at, seen[count].left))
                return refuse(TLS_ALERT_BAD_CERTIFICATE, "an extension is there twice", ret_reason);
        count++;
    }
    return TLS_OK;
}

static bool read_serial(struct tls_reader *tbs)
{
    struct tls_reader serial = der_get(tbs, DER_INTEGER);
    bool padded = serial.left > 1 && ((serial.at[0] == 0 && !(serial.at[1] & 0x80)) ||
                                      (serial.at[0] == 0xff && serial.at[1] & 0x80));

    return !serial.failed && serial.left >= 1 && serial.left <= 21 && !padded;
}

static int read_tbs(struct tls_reader tbs, struct tls_certificate *certificate,
                    const char **ret_reason)
{
    struct tls_reader outer = der_get(&tbs, DER_CONTEXT), version = der_get(&outer, DER_INTEGER);
    struct tls_reader algorithm, validity;
    const uint8_t *spki = NULL;
    size_t spki_length = 0;
    int alert;

    if (!der_equals(&version, "\2", 1) || !tls_read_all(&outer))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "it is not of version 3", ret_reason);
    if (!read_serial(&tbs))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "the serial number is no strict DER", ret_reason);
    algorithm = der_get(&tbs, DER_SEQUENCE);
    if (!tbs.failed && !is_ed25519(algorithm))
        return refuse(TLS_ALERT_UNSUPPORTED_CERTIFICATE, "it is not signed with Ed25519", ret_reason);
    der_get(&tbs, DER_SEQUENCE); /* the issuer */
    validity = der_get(&tbs, DER_SEQUENCE);
    certificate->not_before = der_get_time(&validity);
    certificate->not_after = der_get_time(&validity);
    der_get(&tbs, DER_SEQUENCE); /* the subject */
    if (tbs.failed || !tls_read_all(&validity))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "it is no strict DER", ret_reason);
    der_get_whole(&tbs, DER_SEQUENCE, &spki, &spki_length);
    if (tbs.failed)
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "it has no public key", ret_reason);
    alert = tls_spki_parse(spki, spki_length, certificate->public_key, ret_reason);
    if (alert != TLS_OK || tbs.left == 0)
        return alert;
    alert = read_extensions(&tbs, certificate, ret_reason);
    if (alert == TLS_OK && !tls_read_all(&tbs))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "something follows the extensions", ret_reason);
    return alert;
}

int tls_certificate_parse(const uint8_t *der, size_t length, struct tls_certificate *ret_certificate,
                          const char **ret_reason)
{
    struct tls_reader reader = tls_reader(der, length), outer = der_get(&reader, DER_SEQUENCE);
    struct tls_certificate certificate = {.for_clients = true, .for_servers = true};
    struct tls_reader tbs, algorithm, signature;
    const uint8_t *signed_bytes = NULL;
    size_t signed_length = 0;
    int alert;

    tbs = der_get_whole(&outer, DER_SEQUENCE, &signed_bytes, &signed_length);
    algorithm = der_get(&outer, DER_SEQUENCE);
    signature = der_get_bits(&outer);
    if (!tls_read_all(&reader) || !tls_read_all(&outer))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "it is no strict DER", ret_reason);
    if (!is_ed25519(algorithm))
        return refuse(TLS_ALERT_UNSUPPORTED_CERTIFICATE, "it is not signed with Ed25519", ret_reason);
    alert = read_tbs(tbs, &certificate, ret_reason);
    if (alert != TLS_OK)
        return alert;
    if (signature.left != TLS_SIGNATURE_SIZE ||
        crypto_sign_verify_detached(signature.at, signed_bytes, signed_length, certificate.public_key))
        return refuse(TLS_ALERT_BAD_CERTIFICATE, "it is not signed by its own key", ret_reason);
    *ret_certificate = certificate;
    return TLS_OK;
}
