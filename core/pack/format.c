/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/format.h"

#include "util/io.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define ZSTD_MAGIC UINT32_C(0xfd2fb528)
#define SKIPPABLE_MAGIC UINT32_C(0x184d2a5e)
#define SEEKABLE_MAGIC UINT32_C(0x8f92eab1)
#define ZERO_BLOCK (UINT32_C(1) << 17) /* the most that a block of zstd holds */

void pack_frame_encode(const struct pack_frame *frame, uint8_t entry[PACK_FRAME_ENTRY])
{
    pack_put32(entry, frame->compressed);
    pack_put32(entry + 4, frame->size);
    memcpy(entry + 8, frame->content, PACK_CONTENT_SIZE);
    memcpy(entry + 24, frame->hash, PACK_HASH_SIZE);
}

void pack_frame_decode(const uint8_t entry[PACK_FRAME_ENTRY], struct pack_frame *frame)
{
    frame->compressed = pack_get32(entry);
    frame->size = pack_get32(entry + 4);
    memcpy(frame->content, entry + 8, PACK_CONTENT_SIZE);
    memcpy(frame->hash, entry + 24, PACK_HASH_SIZE);
}

bool pack_frame_is_zero(const struct pack_frame *frame)
{
    return io_is_zero(frame->content, sizeof(frame->content));
}

void pack_hash(const void *data, size_t length, uint8_t hash[PACK_HASH_SIZE])
{
    crypto_generichash(hash, PACK_HASH_SIZE, data, length, NULL, 0);
}

void pack_content(const void *data, size_t length, uint8_t content[PACK_CONTENT_SIZE])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, length));
    memcpy(content, canonical.digest, PACK_CONTENT_SIZE);
}

/* Magic, a descriptor (content size in 4 bytes), a window of 128 KiB, blocks of one repeated byte. */
size_t pack_zero_frame(uint32_t size, uint8_t frame[PACK_ZERO_FRAME_MAX])
{
    uint8_t *at = frame + 10;

    pack_put32(frame, ZSTD_MAGIC);
    frame[4] = 0x80;
    frame[5] = 7 << 3;
    pack_put32(frame + 6, size);
    while (size) {
        uint32_t length = size < ZERO_BLOCK ? size : ZERO_BLOCK;

        size -= length;
        pack_put32(at, length << 3 | 1 << 1 | (size == 0)); /* 3 bytes, and the zero to repeat */
        at += 4;
    }
    return (size_t)(at - frame);
}

static unsigned tar_checksum(const uint8_t block[PACK_BLOCK])
{
    unsigned sum = 8 * ' ';

    for (size_t i = 0; i < PACK_BLOCK; i++)
        sum += i < 148 || i >= 156 ? block[i] : 0;
    return sum;
}

void pack_tar_header(const char *name, uint64_t size, uint8_t block[PACK_BLOCK])
{
    char *text = (char *)block;

    memset(block, 0, PACK_BLOCK);
    snprintf(text, 100, "%s", name);
    snprintf(text + 100, 8, "%07o", 0600u);
    snprintf(text + 108, 8, "%07o", 0u);
    snprintf(text + 116, 8, "%07o", 0u);
    snprintf(text + 136, 12, "%011o", 0u);
    text[156] = '0';
    if (size < UINT64_C(1) << 33) {
        snprintf(text + 124, 12, "%011llo", (unsigned long long)size);
        memcpy(text + 257, "ustar\00000", 8);
    } else { /* as GNU writes it */
        block[124] = 0x80;
        for (unsigned i = 0; i < 8; i++)
            block[135 - i] = (uint8_t)(size >> 8 * i);
        memcpy(text + 257, "ustar  ", 8);
    }
    snprintf(text + 148, 8, "%06o", tar_checksum(block));
    text[155] = ' ';
}

/* Octal digits, with blanks and NULs around, or GNU's binary. */
static int tar_number(const uint8_t *field, size_t length, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t i = 0;

    if (field[0] == 0x80) {
        for (i = 1; i < length; i++) {
            if (value >> 55)
                return -EINVAL;
            value = value << 8 | field[i];
        }
        *ret_value = value;
        return 0;
    }
    while (i < length && field[i] == ' ')
        i++;
    for (; i < length && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (uint64_t)(field[i] - '0'); /* 12 digits at most */
    for (; i < length; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return -EINVAL;
    *ret_value = value;
    return 0;
}

int pack_tar_parse(const uint8_t block[PACK_BLOCK], struct pack_tar_entry *entry)
{
    const char *text = (const char *)block;
    bool prefixed = !memcmp(text + 257, "ustar\0", 6) && text[345];
    uint64_t checksum, size;

    if (io_is_zero(block, PACK_BLOCK)) {
        *entry = (struct pack_tar_entry){.name = ""};
        return 0;
    }
    if (tar_number(block + 148, 8, &checksum) || checksum != tar_checksum(block) ||
        tar_number(block + 124, 12, &size) || size > INT64_MAX / 2 || !*text)
        return -EINVAL;
    entry->size = size;
    entry->type = block[156] ? (char)block[156] : '0';
    snprintf(entry->name, sizeof(entry->name), "%.*s%s%.100s", prefixed ? 155 : 0, text + 345,
             prefixed ? "/" : "", text);
    return 0;
}

void pack_seek_header(uint32_t frames, uint8_t header[PACK_SEEK_HEADER])
{
    pack_put32(header, SKIPPABLE_MAGIC);
    pack_put32(header + 4, frames * PACK_SEEK_ENTRY + PACK_SEEK_FOOTER);
}

void pack_seek_footer(uint32_t frames, uint8_t footer[PACK_SEEK_FOOTER])
{
    pack_put32(footer, frames);
    footer[4] = 0;
    pack_put32(footer + 5, SEEKABLE_MAGIC);
}

int pack_seek_parse(const uint8_t footer[PACK_SEEK_FOOTER], uint32_t *ret_frames,
                    size_t *ret_entry_size)
{
    uint32_t frames = pack_get32(footer);

    if (pack_get32(footer + 5) != SEEKABLE_MAGIC || footer[4] & 0x7c || frames > PACK_FRAMES_MAX)
        return -EINVAL;
    *ret_frames = frames;
    *ret_entry_size = PACK_SEEK_ENTRY + (footer[4] & 0x80 ? 4 : 0);
    return 0;
}
