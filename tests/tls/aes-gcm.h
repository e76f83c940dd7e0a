/* SPDX-License-Identifier: BSD-2-Clause */
/* AES-128-GCM (FIPS 197, SP 800-38D), slow and plain: the traces of RFC 8448 are sealed with it. */
#ifndef TESTS_TLS_AES_GCM_H
#define TESTS_TLS_AES_GCM_H

#include <stddef.h>
#include <stdint.h>

/* Writes `length` bytes and a tag of 16 behind them. */
void aes_gcm_seal(const uint8_t key[16], const uint8_t nonce[12], const uint8_t *aad, size_t aad_length,
                  const uint8_t *plain, size_t length, uint8_t *sealed);

#endif
