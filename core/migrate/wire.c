/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Header layout, offsets in bytes:
 *   0 magic u32 | 4 type u16 | 6 device u16 | 8 length u32 | 12 generation u32 | 16 offset u64
 *   24 argument u64 | 32 sequence u32 | 36 check u32 | 40 checksum u64
 */
#include "migrate/wire.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#define CHECK_OFFSET 36
#define CHECKSUM_OFFSET 40

static void put16(char *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static void put32(char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t get32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

/* Of the header alone: a length that is not what was sent must not be waited for. */
static uint32_t check(const char *bytes, uint64_t seed)
{
    return (uint32_t)XXH3_64bits_withSeed(bytes, CHECK_OFFSET, seed);
}

/* The header's hash seeds the payload's, so that one value covers both. */
static uint64_t checksum(const char *bytes, uint64_t seed, const void *payload, size_t length)
{
    uint64_t head = XXH3_64bits_withSeed(bytes, CHECKSUM_OFFSET, seed);

    return length ? XXH3_64bits_withSeed(payload, length, head) : head;
}

void wire_encode(const struct wire_header *header, uint64_t seed, const void *payload,
                 void *ret_bytes)
{
    char *bytes = ret_bytes;

    put32(bytes, WIRE_MAGIC);
    put16(bytes + 4, header->type);
    put16(bytes + 6, header->device);
    put32(bytes + 8, header->length);
    put32(bytes + 12, header->generation);
    put64(bytes + 16, header->offset);
    put64(bytes + 24, header->argument);
    put32(bytes + 32, (uint32_t)header->sequence);
    put32(bytes + CHECK_OFFSET, check(bytes, seed));
    put64(bytes + CHECKSUM_OFFSET, checksum(bytes, seed, payload, header->length));
}

/* The longest payload of a type, or -1 for a type that does not exist. */
static int64_t payload_limit(unsigned type)
{
    switch (type) {
    case WIRE_HELLO:
    case WIRE_OFFER:
    case WIRE_ACCEPT:
    case WIRE_ABORT:
    case WIRE_REFUSED:
    case WIRE_RESUME:
        return WIRE_JSON_MAX;
    case WIRE_CUSTOM:
        return WIRE_CUSTOM_MAX;
    case WIRE_JOIN:
        return WIRE_TOKEN_SIZE;
    case WIRE_PASS:
    case WIRE_HASHES:
    case WIRE_DATA:
        return WIRE_DATA_MAX;
    case WIRE_DELTA:
        return WIRE_PAYLOAD_MAX;
    case WIRE_READY:
    case WIRE_MARK:
    case WIRE_ACK:
    case WIRE_COMMIT:
    case WIRE_RESUMED:
    case WIRE_SENT:
    case WIRE_COMPLETE:
    case WIRE_DONE:
    case WIRE_PING:
    case WIRE_PONG:
    case WIRE_ZERO:
    case WIRE_HAVE:
    case WIRE_NEED:
        return 0;
    default:
        return -1;
    }
}

int wire_decode(const void *bytes, struct wire_header *ret_header)
{
    const char *at = bytes;
    const struct wire_header header = {
        .type = get16(at + 4),
        .device = get16(at + 6),
        .length = get32(at + 8),
        .generation = get32(at + 12),
        .offset = get64(at + 16),
        .argument = get64(at + 24),
        .sequence = get32(at + 32),
    };

    if (get32(at) != WIRE_MAGIC || payload_limit(header.type) < 0 ||
        (int64_t)header.length > payload_limit(header.type) ||
        (header.type >= WIRE_DATA && header.device >= WIRE_DEVICES_MAX))
        return -EPROTO;
    *ret_header = header;
    return 0;
}

int wire_check(const void *bytes, uint64_t seed, uint64_t sequence)
{
    const char *at = bytes;

    return get32(at + 32) == (uint32_t)sequence && get32(at + CHECK_OFFSET) == check(at, seed)
               ? 0
               : -EBADMSG;
}

int wire_verify(const void *bytes, const struct wire_header *header, uint64_t seed,
                const void *payload)
{
    const char *at = bytes;

    return get64(at + CHECKSUM_OFFSET) == checksum(at, seed, payload, header->length) ? 0
                                                                                      : -EBADMSG;
}

const char *wire_type_name(unsigned type)
{
    static const char *const names[] = {
        [WIRE_HELLO] = "HELLO",     [WIRE_OFFER] = "OFFER",       [WIRE_ACCEPT] = "ACCEPT",
        [WIRE_ABORT] = "ABORT",     [WIRE_JOIN] = "JOIN",         [WIRE_READY] = "READY",
        [WIRE_PASS] = "PASS",       [WIRE_MARK] = "MARK",         [WIRE_ACK] = "ACK",
        [WIRE_COMMIT] = "COMMIT",   [WIRE_RESUMED] = "RESUMED",   [WIRE_REFUSED] = "REFUSED",
        [WIRE_SENT] = "SENT",       [WIRE_COMPLETE] = "COMPLETE", [WIRE_DONE] = "DONE",
        [WIRE_PING] = "PING",       [WIRE_PONG] = "PONG",         [WIRE_HASHES] = "HASHES",
        [WIRE_RESUME] = "RESUME",   [WIRE_CUSTOM] = "CUSTOM",     [WIRE_DATA] = "DATA",
        [WIRE_ZERO] = "ZERO",       [WIRE_HAVE] = "HAVE",         [WIRE_DELTA] = "DELTA",
        [WIRE_NEED] = "NEED",
    };

    return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}
