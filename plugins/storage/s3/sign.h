/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AWS Signature Version 4 over the Authorization header ("Signature Version 4 signing process" of the
 * AWS General Reference).  Pure: no clock, no network.
 */
#ifndef S3_SIGN_H
#define S3_SIGN_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define SIGN_HASH_TEXT 65 /* SHA-256 in hexadecimal and a NUL */

struct sign_credentials {
    char access_key[129];
    char secret_key[129];
    char session_token[2049]; /* empty: none */
};

struct sign_request {
    const char *method; /* "GET" */
    const char *host;   /* as the Host header has it */
    const char *path;   /* encoded, begins with '/' */
    const char *query;  /* encoded and sorted, without '?'; "" for none */
    const char *payload_hash; /* hexadecimal SHA-256 of the body */
    const char *tag;          /* value of x-amz-meta-drafter, or NULL */
    const char *region;
    time_t when;
};

/* Hexadecimal SHA-256 of `length` bytes. */
void sign_hash(const void *data, size_t length, char text[SIGN_HASH_TEXT]);

/* "YYYYMMDDTHHMMSSZ", for the x-amz-date header. */
void sign_date(time_t when, char text[17]);

/*
 * Percent-encodes `text` as AWS wants it (RFC 3986 unreserved characters stay, '/' where `keep_slash`).
 * Returns 0, or -ENAMETOOLONG when it does not fit.
 */
int sign_encode(const char *text, int keep_slash, char *encoded, size_t size);

/*
 * The value of the Authorization header.  Signed are host, x-amz-content-sha256, x-amz-date and, where there
 * are any, x-amz-meta-drafter (a tag) and x-amz-security-token (of a session).  Returns 0, or -ENAMETOOLONG
 * when something does not fit.
 */
int sign_authorize(const struct sign_request *request, const struct sign_credentials *credentials,
                   char *value, size_t size);

#endif
