/* SPDX-License-Identifier: BSD-2-Clause */
#include "aes-gcm.h"

#include <string.h>

static uint8_t times_two(uint8_t x)
{
    return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0));
}

static uint8_t multiply(uint8_t x, uint8_t y)
{
    uint8_t product = 0;

    for (; y; y >>= 1, x = times_two(x))
        if (y & 1)
            product ^= x;
    return product;
}

/* The S-box as FIPS 197, section 5.1.1 defines it: the inverse (x to the 254th), then an affine map. */
static uint8_t substitute(uint8_t x)
{
    uint8_t inverse = 1, result = 0x63;

    for (int i = 0; i < 254; i++)
        inverse = multiply(inverse, x);
    for (int i = 0; i < 5; i++)
        result ^= (uint8_t)(inverse << i | inverse >> (8 - i));
    return result;
}

static void expand_key(const uint8_t key[16], uint8_t words[176])
{
    uint8_t constant = 1;

    memcpy(words, key, 16);
    for (int i = 16; i < 176; i += 4) {
        uint8_t last[4];

        memcpy(last, words + i - 4, 4);
        if (i % 16 == 0) {
            const uint8_t first = last[0];

            last[0] = substitute(last[1]) ^ constant;
            last[1] = substitute(last[2]);
            last[2] = substitute(last[3]);
            last[3] = substitute(first);
            constant = times_two(constant);
        }
        for (int j = 0; j < 4; j++)
            words[i + j] = words[i + j - 16] ^ last[j];
    }
}

static void mix_columns(uint8_t state[16])
{
    for (int i = 0; i < 16; i += 4) {
        uint8_t column[4], all = 0;

        memcpy(column, state + i, 4);
        for (int j = 0; j < 4; j++)
            all ^= column[j];
        for (int j = 0; j < 4; j++)
            state[i + j] ^= all ^ times_two(column[j] ^ column[(j + 1) % 4]);
    }
}

static void encrypt_block(const uint8_t words[176], const uint8_t in[16], uint8_t out[16])
{
    uint8_t state[16];

    for (int i = 0; i < 16; i++)
        state[i] = in[i] ^ words[i];
    for (int round = 1; round <= 10; round++) {
        uint8_t shifted[16];

        for (int i = 0; i < 16; i++) /* SubBytes and ShiftRows */
            shifted[i] = substitute(state[(i + i % 4 * 4) % 16]);
        memcpy(state, shifted, 16);
        if (round < 10)
            mix_columns(state);
        for (int i = 0; i < 16; i++)
            state[i] ^= words[16 * round + i];
    }
    memcpy(out, state, 16);
}

/* SP 800-38D, algorithm 1, on the block that a hash has gathered. */
static void hash_block(uint8_t hash[16], const uint8_t key[16], const uint8_t *block, size_t length)
{
    uint8_t product[16] = {0}, factor[16];

    for (size_t i = 0; i < length; i++)
        hash[i] ^= block[i];
    memcpy(factor, key, 16);
    for (int bit = 0; bit < 128; bit++) {
        uint8_t odd = factor[15] & 1;

        for (int i = 0; hash[bit / 8] >> (7 - bit % 8) & 1 && i < 16; i++)
            product[i] ^= factor[i];
        for (int i = 15; i > 0; i--)
            factor[i] = (uint8_t)(factor[i] >> 1 | factor[i - 1] << 7);
        factor[0] = (uint8_t)(factor[0] >> 1 ^ (odd ? 0xe1 : 0));
    }
    memcpy(hash, product, 16);
}

static void hash_bytes(uint8_t hash[16], const uint8_t key[16], const uint8_t *bytes, size_t length)
{
    for (size_t done = 0; done < length; done += 16)
        hash_block(hash, key, bytes + done, length - done < 16 ? length - done : 16);
}

void aes_gcm_seal(const uint8_t key[16], const uint8_t nonce[12], const uint8_t *aad, size_t aad_length,
                  const uint8_t *plain, size_t length, uint8_t *sealed)
{
    uint8_t words[176], counter[16] = {0}, hash_key[16] = {0}, hash[16] = {0}, pad[16];
    uint8_t lengths[16] = {0};

    expand_key(key, words);
    encrypt_block(words, hash_key, hash_key);
    memcpy(counter, nonce, 12);
    for (size_t i = 0; i < length; i++) {
        size_t block = 2 + i / 16;

        counter[14] = (uint8_t)(block >> 8);
        counter[15] = (uint8_t)block;
        if (i % 16 == 0)
            encrypt_block(words, counter, pad);
        sealed[i] = plain[i] ^ pad[i % 16];
    }
    hash_bytes(hash, hash_key, aad, aad_length);
    hash_bytes(hash, hash_key, sealed, length);
    for (int i = 0; i < 4; i++) {
        lengths[7 - i] = (uint8_t)(aad_length * 8 >> 8 * i);
        lengths[15 - i] = (uint8_t)(length * 8 >> 8 * i);
    }
    hash_bytes(hash, hash_key, lengths, 16);
    counter[14] = 0;
    counter[15] = 1;
    encrypt_block(words, counter, pad);
    for (int i = 0; i < 16; i++)
        sealed[length + (size_t)i] = hash[i] ^ pad[i];
}
