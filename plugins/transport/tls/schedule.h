/* SPDX-License-Identifier: BSD-2-Clause */
/* The key schedule of RFC 8446, section 7.1, for SHA-256.  Secrets have 32 bytes and lie in memory of the caller. */
#ifndef TLS_SCHEDULE_H
#define TLS_SCHEDULE_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_HASH_SIZE crypto_hash_sha256_BYTES

/* HKDF-Extract (RFC 5869); a NULL salt or input stands for 32 zeros.  `ret_secret` may be either. */
void tls_extract(const uint8_t *salt, const uint8_t *input, size_t length,
                 uint8_t ret_secret[TLS_HASH_SIZE]);

/* HKDF-Expand-Label; at most 255 * 32 bytes. */
void tls_expand_label(const uint8_t secret[TLS_HASH_SIZE], const char *label, const uint8_t *context,
                      size_t context_length, uint8_t *ret_bytes, size_t length);

/* Derive-Secret, given the hash of the messages; NULL is the hash of none. */
void tls_derive(const uint8_t secret[TLS_HASH_SIZE], const char *label, const uint8_t *hash,
                uint8_t ret_secret[TLS_HASH_SIZE]);

/* From one stage to the next: early to handshake (input: the shared secret, 32 bytes), to master (NULL). */
void tls_next_stage(uint8_t secret[TLS_HASH_SIZE], const uint8_t *input);

/* The verify_data of Finished, and of binders: HMAC under finished_key of the secret (section 4.4.4). */
void tls_finished(const uint8_t secret[TLS_HASH_SIZE], const uint8_t hash[TLS_HASH_SIZE],
                  uint8_t ret_verify[TLS_HASH_SIZE]);

/* The traffic secret after a KeyUpdate (section 7.2), in place. */
void tls_update_secret(uint8_t secret[TLS_HASH_SIZE]);

/* The PSK of a ticket (section 4.6.1). */
void tls_ticket_psk(const uint8_t resumption_secret[TLS_HASH_SIZE], const uint8_t *nonce,
                    size_t nonce_length, uint8_t ret_psk[TLS_HASH_SIZE]);

/* The binder of a PSK over the hash of a ClientHello cut off before its binders (section 4.2.11.2). */
void tls_binder(const uint8_t *psk, size_t psk_length, bool external,
                const uint8_t hash[TLS_HASH_SIZE], uint8_t ret_binder[TLS_HASH_SIZE]);

#endif
