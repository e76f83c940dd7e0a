/* SPDX-License-Identifier: BSD-2-Clause */
/* Strict DER (X.690, chapter 10): definite lengths in the shortest form, tags of one byte. */
#ifndef TLS_DER_H
#define TLS_DER_H

#include "codec.h"

enum der_tag {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_OCTET_STRING = 0x04,
    DER_OID = 0x06,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_SEQUENCE = 0x30,
    DER_CONTEXT = 0xa0, /* constructed: [0] is DER_CONTEXT, [3] is DER_CONTEXT + 3 */
};

/* The tag that comes next, or -1 at the end. */
int der_peek(const struct tls_reader *reader);

/* Enters the next value, which must have this tag; a failed reader when it has not. */
struct tls_reader der_get(struct tls_reader *reader, unsigned tag);

/* As der_get; `ret_start` and `ret_length` are the value with its tag and length. */
struct tls_reader der_get_whole(struct tls_reader *reader, unsigned tag, const uint8_t **ret_start,
                                size_t *ret_length);

/* The bytes of a BIT STRING that is a whole number of them. */
struct tls_reader der_get_bits(struct tls_reader *reader);

/* UTCTime or GeneralizedTime as RFC 5280, section 4.1.2.5 allows them, in seconds since 1970. */
int64_t der_get_time(struct tls_reader *reader);

/* Whether what is left of the reader is exactly these bytes. */
bool der_equals(const struct tls_reader *reader, const void *bytes, size_t length);

#endif
