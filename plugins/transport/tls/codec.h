/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading and writing the presentation language of RFC 8446, section 3: big-endian numbers and vectors with
 * a length in front.  Both remember a failure, give zeros or write nothing from then on, and are asked once
 * at the end; neither ever touches a byte outside its bounds.
 */
#ifndef TLS_CODEC_H
#define TLS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tls_reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static inline struct tls_reader tls_reader(const uint8_t *bytes, size_t length)
{
    return (struct tls_reader){.at = bytes, .left = length};
}

/* The next `length` bytes, or NULL when there are fewer. */
static inline const uint8_t *tls_get_bytes(struct tls_reader *reader, size_t length)
{
    const uint8_t *bytes = reader->at;

    if (reader->failed || length > reader->left) {
        reader->failed = true;
        return NULL;
    }
    reader->at += length;
    reader->left -= length;
    return bytes;
}

/* A number of `width` bytes, at most 8. */
static inline uint64_t tls_get_number(struct tls_reader *reader, unsigned width)
{
    const uint8_t *bytes = tls_get_bytes(reader, width);
    uint64_t number = 0;

    for (unsigned i = 0; bytes && i < width; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* A vector whose length takes `width` bytes; an empty, failed reader when it is cut off. */
static inline struct tls_reader tls_get_vector(struct tls_reader *reader, unsigned width)
{
    size_t length = (size_t)tls_get_number(reader, width);
    const uint8_t *bytes = tls_get_bytes(reader, length);

    return (struct tls_reader){.at = bytes, .left = bytes ? length : 0, .failed = !bytes};
}

/* Nothing is left and nothing was missing. */
static inline bool tls_read_all(const struct tls_reader *reader)
{
    return !reader->failed && reader->left == 0;
}

struct tls_writer {
    uint8_t *start;
    size_t size, used;
    bool failed; /* something did not fit */
};

static inline struct tls_writer tls_writer(uint8_t *bytes, size_t size)
{
    return (struct tls_writer){.start = bytes, .size = size};
}

static inline void tls_put_bytes(struct tls_writer *writer, const void *bytes, size_t length)
{
    if (writer->failed || length > writer->size - writer->used) {
        writer->failed = true;
        return;
    }
    if (length)
        memcpy(writer->start + writer->used, bytes, length);
    writer->used += length;
}

static inline void tls_put_number(struct tls_writer *writer, unsigned width, uint64_t number)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < width; i++)
        bytes[i] = (uint8_t)(number >> 8 * (width - 1 - i));
    tls_put_bytes(writer, bytes, width);
}

/* Leaves room for a length of `width` bytes; the result goes to tls_put_end. */
static inline size_t tls_put_begin(struct tls_writer *writer, unsigned width)
{
    size_t mark = writer->used;

    tls_put_number(writer, width, 0);
    return mark;
}

static inline void tls_put_end(struct tls_writer *writer, unsigned width, size_t mark)
{
    size_t length = writer->used - mark - width;

    if (writer->failed || (width < 8 && length >> 8 * width)) {
        writer->failed = true;
        return;
    }
    for (unsigned i = 0; i < width; i++)
        writer->start[mark + i] = (uint8_t)(length >> 8 * (width - 1 - i));
}

#endif
