/* SPDX-License-Identifier: BSD-2-Clause */
/* Signatures of packages: Ed25519, by the keys of nodes (drafter keygen). */
#ifndef PACK_SIGNATURE_H
#define PACK_SIGNATURE_H

#include "trust/keygen.h"

#define PACK_SIGNATURE_MAX 512

/* The text of the signature's entry, which the caller frees; the key is the file that keygen wrote. */
int pack_sign(const char *key_path, const char *manifest, size_t length, char **ret_text,
              struct drafter_error *err);

/* 0 when it is right: then the identity of the key is whose. */
int pack_signature_check(const char *text, size_t text_length, const char *manifest, size_t length,
                         char ret_identity[DRAFTER_IDENTITY_SIZE], struct drafter_error *err);

#endif
