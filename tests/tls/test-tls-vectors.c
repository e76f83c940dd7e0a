/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Published vectors.  RFC 8448: key schedule, binders and tickets with our functions, and record protection
 * with our nonces and headers; its traces are sealed with AES-128-GCM, which stands in for our AEAD then.
 * RFC 8439, 7748, 8032: the primitives, by the functions and in the way in which we use them.
 */
#include "../unit/unit.h"
#include "aes-gcm.h"
#include "alert.h"
#include "record.h"
#include "rfc8448.h"
#include "schedule.h"

static size_t unhex(const char *text, uint8_t *ret_bytes)
{
    size_t length;

    ck_assert_int_eq(sodium_hex2bin(ret_bytes, 2048, text, strlen(text), NULL, &length, NULL), 0);
    return length;
}

static void expect(const void *bytes, size_t length, const char *hex)
{
    char found[4096];

    sodium_bin2hex(found, sizeof(found), bytes, length);
    ck_assert_str_eq(found, hex);
}

static void hash_of(uint8_t hash[TLS_HASH_SIZE], const char *const *messages)
{
    crypto_hash_sha256_state state;
    uint8_t bytes[2048];

    crypto_hash_sha256_init(&state);
    for (; *messages; messages++)
        crypto_hash_sha256_update(&state, bytes, unhex(*messages, bytes));
    crypto_hash_sha256_final(&state, hash);
}

#define HASH_OF(hash_, ...) hash_of(hash_, (const char *const[]){__VA_ARGS__, NULL})

static void shared_secret(const char *private_hex, const char *public_hex, uint8_t ret_shared[32])
{
    uint8_t private_key[2048], public_key[2048];

    unhex(private_hex, private_key);
    unhex(public_hex, public_key);
    ck_assert_int_eq(crypto_scalarmult(ret_shared, private_key, public_key), 0);
}

struct traffic {
    uint8_t key[16], iv[12];
};

static void expect_keys(const uint8_t *secret, const char *key, const char *iv, struct traffic *ret_traffic)
{
    struct tls_keys keys;

    /* The trace's keys are half as long as ours, and the label has the length in it. */
    tls_expand_label(secret, "key", NULL, 0, ret_traffic->key, sizeof(ret_traffic->key));
    tls_keys_set(&keys, secret);
    memcpy(ret_traffic->iv, keys.iv, sizeof(ret_traffic->iv));
    ck_assert_uint_eq(keys.sequence, 0);
    expect(ret_traffic->key, 16, key);
    expect(ret_traffic->iv, 12, iv);
}

/* Our header, our nonce, our inner plaintext, under the cipher of the trace. */
static void expect_record(const struct traffic *traffic, uint64_t sequence, enum tls_content type,
                          const char *const *messages, const char *record_hex)
{
    uint8_t inner[2048], record[2048], nonce[TLS_NONCE_SIZE];
    size_t length = 0;

    for (; *messages; messages++)
        length += unhex(*messages, inner + length);
    inner[length] = (uint8_t)type;
    tls_record_header(length, record);
    tls_nonce(traffic->iv, sequence, nonce);
    aes_gcm_seal(traffic->key, nonce, record, TLS_RECORD_HEADER, inner, length + 1,
                 record + TLS_RECORD_HEADER);
    expect(record, TLS_SEALED_SIZE(length), record_hex);
}

#define EXPECT_RECORD(traffic_, sequence_, type_, record_, ...)                                    \
    expect_record(traffic_, sequence_, type_, (const char *const[]){__VA_ARGS__, NULL}, record_)

#define SERVER_FLIGHT EXTENSIONS, CERTIFICATE, VERIFY, SERVER_FINISHED

static void to_master(uint8_t stage[TLS_HASH_SIZE], uint8_t client[TLS_HASH_SIZE],
                      uint8_t server[TLS_HASH_SIZE])
{
    uint8_t shared[32], hash[TLS_HASH_SIZE];

    shared_secret("b1580eeadf6dd589b8ef4f2d5652578cc810e9980191ec8d058308cea216a21e",
                  "99381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c", shared);
    expect(shared, 32, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d");
    tls_extract(NULL, NULL, 0, stage);
    expect(stage, 32, "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a");
    tls_next_stage(stage, shared);
    expect(stage, 32, "1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac");
    HASH_OF(hash, CLIENT_HELLO, SERVER_HELLO);
    tls_derive(stage, "c hs traffic", hash, client);
    tls_derive(stage, "s hs traffic", hash, server);
    tls_next_stage(stage, NULL);
    expect(stage, 32, "18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919");
}

START_TEST(rfc8448_3_handshake)
{
    uint8_t stage[32], client[32], server[32], hash[32], verify[32];
    struct traffic traffic;

    to_master(stage, client, server);
    expect(client, 32, "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21");
    expect(server, 32, "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38");
    HASH_OF(hash, CLIENT_HELLO, SERVER_HELLO, EXTENSIONS, CERTIFICATE, VERIFY);
    tls_finished(server, hash, verify);
    expect(verify, 32, SERVER_FINISHED + 8);
    expect_keys(server, "3fce516009c21727d0f2e4e86ee403bc", "5d313eb2671276ee13000b30", &traffic);
    EXPECT_RECORD(&traffic, 0, TLS_HANDSHAKE, SERVER_FLIGHT_RECORD, SERVER_FLIGHT);
    HASH_OF(hash, CLIENT_HELLO, SERVER_HELLO, SERVER_FLIGHT);
    tls_finished(client, hash, verify);
    expect(verify, 32, CLIENT_FINISHED + 8);
    expect_keys(client, "dbfaa693d1762c5b666af5d950258d01", "5bd3c71b836e0b76bb73265f", &traffic);
    EXPECT_RECORD(&traffic, 0, TLS_HANDSHAKE, CLIENT_FINISHED_RECORD, CLIENT_FINISHED);
}
END_TEST

START_TEST(rfc8448_3_application_data)
{
    uint8_t stage[32], client[32], server[32], hash[32];
    struct traffic traffic;

    to_master(stage, client, server);
    HASH_OF(hash, CLIENT_HELLO, SERVER_HELLO, SERVER_FLIGHT);
    tls_derive(stage, "c ap traffic", hash, client);
    tls_derive(stage, "s ap traffic", hash, server);
    expect(client, 32, "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    expect(server, 32, "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    expect_keys(server, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984", &traffic);
    EXPECT_RECORD(&traffic, 0, TLS_HANDSHAKE, TICKET_RECORD, TICKET);
    EXPECT_RECORD(&traffic, 1, TLS_APPLICATION_DATA, SERVER_DATA_RECORD, DATA);
    EXPECT_RECORD(&traffic, 2, TLS_ALERT, SERVER_CLOSE_RECORD, "0100");
    expect_keys(client, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9", &traffic);
    EXPECT_RECORD(&traffic, 0, TLS_APPLICATION_DATA, CLIENT_DATA_RECORD, DATA);
    EXPECT_RECORD(&traffic, 1, TLS_ALERT, CLIENT_CLOSE_RECORD, "0100");
}
END_TEST

static void resumption_psk(uint8_t psk[32])
{
    uint8_t stage[32], client[32], server[32], hash[32], resumption[32];

    to_master(stage, client, server);
    HASH_OF(hash, CLIENT_HELLO, SERVER_HELLO, SERVER_FLIGHT, CLIENT_FINISHED);
    tls_derive(stage, "res master", hash, resumption);
    expect(resumption, 32, "7df235f2031d2a051287d02b0241b0bfdaf86cc856231f2d5aba46c434ec196c");
    tls_ticket_psk(resumption, (const uint8_t *)"\0\0", 2, psk);
    expect(psk, 32, "4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3");
}

START_TEST(rfc8448_4_resumption)
{
    uint8_t psk[32], hash[32], binder[32], stage[32], shared[32], server[32], verify[32];
    struct traffic traffic;

    resumption_psk(psk);
    HASH_OF(hash, RESUMED_PREFIX);
    tls_binder(psk, sizeof(psk), false, hash, binder);
    expect(binder, 32, RESUMED_BINDERS + 6);
    tls_extract(NULL, psk, sizeof(psk), stage);
    expect(stage, 32, "9b2188e9b2fc6d64d71dc329900e20bb41915000f678aa839cbb797cb7d8332c");
    shared_secret("de5b4476e7b490b2652d338acbf2948066f255f9440e23b98fc69835298dc107",
                  "e4ffb68ac05f8d96c99da26698346c6be16482badddafe051a66b4f18d668f0b", shared);
    tls_next_stage(stage, shared);
    expect(stage, 32, "005cb112fd8eb4ccc623bb88a07c64b3ede1605363fc7d0df8c7ce4ff0fb4ae6");
    HASH_OF(hash, RESUMED_PREFIX, RESUMED_BINDERS, RESUMED_SERVER_HELLO);
    tls_derive(stage, "s hs traffic", hash, server);
    expect(server, 32, "fe927ae271312e8bf0275b581c54eef020450dc4ecffaa05a1a35d27518e7803");
    HASH_OF(hash, RESUMED_PREFIX, RESUMED_BINDERS, RESUMED_SERVER_HELLO, RESUMED_EXTENSIONS);
    tls_finished(server, hash, verify);
    expect(verify, 32, RESUMED_FINISHED + 8);
    expect_keys(server, "27c6bdc0a3dcea39a47326d79bc9e4ee", "9569ecdd4d0536705e9ef725", &traffic);
    EXPECT_RECORD(&traffic, 0, TLS_HANDSHAKE, RESUMED_FLIGHT_RECORD, RESUMED_EXTENSIONS,
                  RESUMED_FINISHED);
}
END_TEST

/* Section 2.8.2: our primitives put together as our records put them together. */
START_TEST(rfc8439_aead)
{
    static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
                               "the future, sunscreen would be it.";
    uint8_t key[2048], nonce[2048], aad[2048], sealed[sizeof(text) + 16];
    size_t aad_length;

    unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", key);
    unhex("070000004041424344454647", nonce);
    aad_length = unhex("50515253c0c1c2c3c4c5c6c7", aad);
    crypto_aead_chacha20poly1305_ietf_encrypt(sealed, NULL, (const uint8_t *)text, sizeof(text) - 1, aad,
                                              aad_length, NULL, nonce, key);
    expect(sealed, 16, "d31a8d34648e60db7b86afbc53ef7ec2");
    expect(sealed + sizeof(text) - 1, 16, "1ae10b594f09e26a7e902ecbd0600691");
}
END_TEST

/* Whatever a record's length and however its content is scattered: the bytes of libsodium's AEAD. */
START_TEST(a_record_is_what_the_aead_makes_of_it)
{
    static uint8_t content[TLS_PLAINTEXT_MAX + 1], record[TLS_RECORD_MAX], other[TLS_RECORD_MAX];
    struct tls_keys keys;

    randombytes_buf(content, sizeof(content));
    tls_keys_set(&keys, content);
    for (size_t length = 0; length <= TLS_PLAINTEXT_MAX; length = length * 5 / 4 + 1) {
        const size_t first = length ? randombytes_uniform((uint32_t)length + 1) : 0;
        const size_t second = length - first ? randombytes_uniform((uint32_t)(length - first) + 1) : 0;
        const struct iovec pieces[] = {{content, first}, {NULL, 0}, {content + first, second},
                                       {content + first + second, length - first - second}};
        struct tls_cursor cursor = {.vector = pieces, .count = 4};
        uint8_t kept = content[length], nonce[TLS_NONCE_SIZE];

        tls_nonce(keys.iv, keys.sequence, nonce);
        tls_seal(&keys, TLS_APPLICATION_DATA, &cursor, length, record);
        content[length] = TLS_APPLICATION_DATA;
        crypto_aead_chacha20poly1305_ietf_encrypt(other, NULL, content, length + 1, record, 5, NULL, nonce,
                                                  keys.key);
        content[length] = kept;
        ck_assert_int_eq(memcmp(record + 5, other, length + 17), 0);
    }
}
END_TEST

START_TEST(records_open_piece_by_piece)
{
    static uint8_t content[TLS_PLAINTEXT_MAX], record[TLS_RECORD_MAX], found[TLS_PLAINTEXT_MAX];
    const struct iovec piece = {content, sizeof(content)};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    struct tls_keys send, receive;
    struct tls_opened opened;

    randombytes_buf(content, sizeof(content));
    tls_keys_set(&send, content);
    receive = send;
    tls_seal(&send, TLS_APPLICATION_DATA, &cursor, sizeof(content), record);
    ck_assert_int_eq(tls_open(&receive, record, TLS_SEALED_SIZE(sizeof(content)), &opened), TLS_OK);
    ck_assert_uint_eq(opened.length, sizeof(content));
    while (opened.done < opened.length) {
        size_t left = opened.length - opened.done, part = 1 + randombytes_uniform(300);

        tls_take(&receive, &opened, found + opened.done, part < left ? part : left);
    }
    ck_assert_int_eq(memcmp(found, content, sizeof(content)), 0);
}
END_TEST

/* Zeros behind the type are padding, as many as there are; content may end with zeros, too. */
START_TEST(padding_is_taken_off)
{
    static const size_t paddings[] = {0, 1, 62, 63, 64, 65, 500, 16000};
    static uint8_t inner[TLS_PLAINTEXT_MAX + 1], record[TLS_RECORD_MAX];
    struct tls_keys keys, receive;
    struct tls_opened opened;
    uint8_t nonce[TLS_NONCE_SIZE];

    memcpy(inner, "abc\0\0\x17", 6);
    for (unsigned i = 0; i < sizeof(paddings) / sizeof(*paddings); i++) {
        size_t length = 5 + paddings[i];

        tls_keys_set(&keys, (const uint8_t *)"01234567890123456789012345678901");
        receive = keys;
        tls_record_header(length, record);
        tls_nonce(keys.iv, 0, nonce);
        crypto_aead_chacha20poly1305_ietf_encrypt(record + 5, NULL, inner, length + 1, record, 5, NULL,
                                                  nonce, keys.key);
        ck_assert_int_eq(tls_open(&receive, record, TLS_SEALED_SIZE(length), &opened), TLS_OK);
        ck_assert_uint_eq(opened.length, 5);
        ck_assert_int_eq(opened.type, TLS_APPLICATION_DATA);
    }
}
END_TEST

/* Section 5.4: the content, its type and the padding are at most 2^14 + 1 bytes, though a record may have more. */
START_TEST(padding_makes_no_record_longer)
{
    static uint8_t inner[TLS_PLAINTEXT_MAX + 2] = "x\x17", record[TLS_RECORD_MAX];
    size_t length = TLS_PLAINTEXT_MAX + (size_t)_i;
    struct tls_keys keys;
    struct tls_opened opened;
    uint8_t nonce[TLS_NONCE_SIZE];

    tls_keys_set(&keys, (const uint8_t *)"01234567890123456789012345678901");
    tls_record_header(length, record);
    tls_nonce(keys.iv, 0, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(record + 5, NULL, inner, length + 1, record, 5, NULL, nonce, keys.key);
    ck_assert_int_eq(tls_open(&keys, record, TLS_SEALED_SIZE(length), &opened),
                     _i ? TLS_ALERT_RECORD_OVERFLOW : TLS_OK);
}
END_TEST

START_TEST(every_change_of_a_record_is_noticed)
{
    const struct iovec piece = {(void *)"some content", 12};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    struct tls_keys keys, receive, untouched;
    struct tls_opened opened;
    uint8_t record[TLS_SEALED_SIZE(12)];

    memset(&keys, 0, sizeof(keys)); /* its padding is compared, too */
    tls_keys_set(&keys, (const uint8_t *)"01234567890123456789012345678901");
    receive = untouched = keys;
    tls_seal(&keys, TLS_APPLICATION_DATA, &cursor, 12, record);
    for (size_t i = 0; i < sizeof(record) * 8; i++) {
        record[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_ne(tls_open(&receive, record, sizeof(record), &opened), TLS_OK);
        ck_assert_int_eq(memcmp(&receive, &untouched, sizeof(receive)), 0);
        record[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    ck_assert_int_eq(tls_open(&receive, record, sizeof(record), &opened), TLS_OK);
    ck_assert_int_ne(tls_open(&receive, record, sizeof(record), &opened), TLS_OK); /* again: replayed */
}
END_TEST

START_TEST(rfc7748_x25519)
{
    uint8_t shared[32], scalar[32] = {9}, point[32] = {9}, next[32];

    shared_secret("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                  "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c", shared);
    expect(shared, 32, "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(crypto_scalarmult(next, scalar, point), 0);
        memcpy(point, scalar, 32);
        memcpy(scalar, next, 32);
    }
    expect(scalar, 32, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}
END_TEST

START_TEST(rfc8032_ed25519)
{
    uint8_t seed[2048], message[2048], public_key[32], secret_key[64], signature[64];
    size_t length;

    unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", seed);
    crypto_sign_seed_keypair(public_key, secret_key, seed);
    expect(public_key, 32, "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
    length = unhex("af82", message);
    crypto_sign_detached(signature, NULL, message, length, secret_key);
    expect(signature, 64, "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f29"
                          "0ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a");
    ck_assert_int_eq(crypto_sign_verify_detached(signature, message, length, public_key), 0);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, rfc8448_3_handshake);
    tcase_add_test(tests, rfc8448_3_application_data);
    tcase_add_test(tests, rfc8448_4_resumption);
    tcase_add_test(tests, rfc8439_aead);
    tcase_add_test(tests, a_record_is_what_the_aead_makes_of_it);
    tcase_add_test(tests, records_open_piece_by_piece);
    tcase_add_test(tests, padding_is_taken_off);
    tcase_add_loop_test(tests, padding_makes_no_record_longer, 0, 2);
    tcase_add_test(tests, every_change_of_a_record_is_noticed);
    tcase_add_test(tests, rfc7748_x25519);
    tcase_add_test(tests, rfc8032_ed25519);
}

int main(void)
{
    return sodium_init() < 0 ? EXIT_FAILURE : unit_run("tls-vectors", add_tests);
}
