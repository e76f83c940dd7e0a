/* SPDX-License-Identifier: BSD-2-Clause */
/* Signatures of packages: Ed25519, by the keys of nodes (drafter keygen). */
#ifndef PACK_SIGNATURE_H
#define PACK_SIGNATURE_H

#include "trust/keygen.h"

#include <stdlib.h>
#include <string.h>

#define PACK_SIGNATURE_MAX 512

/* So that no signature of anything else is one of a manifest. */
#define PACK_SIGNED_CONTEXT "drafter package manifest 1\n"
#define PACK_SIGNED_LENGTH(length_) (sizeof(PACK_SIGNED_CONTEXT) + (length_))

/* What is signed, which the caller frees; NULL: no memory. */
static inline char *pack_signed_text(const char *manifest, size_t length)
{
    char *text = (char *)malloc(PACK_SIGNED_LENGTH(length));

    if (text) {
        memcpy(text, PACK_SIGNED_CONTEXT, sizeof(PACK_SIGNED_CONTEXT));
        memcpy(text + sizeof(PACK_SIGNED_CONTEXT), manifest, length);
    }
    return text;
}

/* The text of the signature's entry, which the caller frees; the key is the file that keygen wrote. */
int pack_sign(const char *key_path, const char *manifest, size_t length, char **ret_text,
              struct drafter_error *err);

/* 0 when it is right: then the identity of the key is whose. */
int pack_signature_check(const char *text, size_t text_length, const char *manifest, size_t length,
                         char ret_identity[DRAFTER_IDENTITY_SIZE], struct drafter_error *err);

#endif
