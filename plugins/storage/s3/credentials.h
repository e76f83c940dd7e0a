/* SPDX-License-Identifier: BSD-2-Clause */
/* Secrets, from files that only their owner can read or from the environment; never from the INI file. */
#ifndef S3_CREDENTIALS_H
#define S3_CREDENTIALS_H

#include "codec.h"
#include "sign.h"
#include <drafter/common.h>

/*
 * From `path`, the format of ~/.aws/credentials, section `profile`; with path NULL from
 * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
 */
int credentials_load(const char *path, const char *profile, struct sign_credentials *credentials,
                     struct drafter_error *err);

/* A file with 64 hexadecimal digits. */
int credentials_load_key(const char *path, uint8_t key[CODEC_KEY], struct drafter_error *err);

#endif
