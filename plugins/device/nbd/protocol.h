/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers of the NBD protocol, in the words of its specification (doc/proto.md of the reference
 * implementation).  All integers on the wire are big-endian.
 */
#ifndef NBD_PROTOCOL_H
#define NBD_PROTOCOL_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Negotiation. */
#define NBD_MAGIC UINT64_C(0x4e42444d41474943)      /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x3e889045565a9)

#define NBD_FLAG_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_NO_ZEROES 0x2u

#define NBD_OPT_EXPORT_NAME 1u
#define NBD_OPT_ABORT 2u
#define NBD_OPT_LIST 3u
#define NBD_OPT_INFO 6u
#define NBD_OPT_GO 7u
#define NBD_OPT_STRUCTURED_REPLY 8u

#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERR_INVALID 0x80000003u
#define NBD_REP_ERR_UNKNOWN 0x80000006u
#define NBD_REP_ERR_TOO_BIG 0x80000009u

#define NBD_INFO_EXPORT 0u
#define NBD_INFO_NAME 1u
#define NBD_INFO_BLOCK_SIZE 3u

/* Transmission flags of an export; the kernel's client has the same. */
#define NBD_TX_HAS_FLAGS 0x1u
#define NBD_TX_READ_ONLY 0x2u
#define NBD_TX_SEND_FLUSH 0x4u
#define NBD_TX_SEND_FUA 0x8u
#define NBD_TX_SEND_TRIM 0x20u
#define NBD_TX_SEND_WRITE_ZEROES 0x40u
#define NBD_TX_SEND_DF 0x80u
#define NBD_TX_CAN_MULTI_CONN 0x100u

/* Transmission. */
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

enum nbd_command {
    NBD_READ = 0,
    NBD_WRITE = 1,
    NBD_DISCONNECT = 2,
    NBD_FLUSH = 3,
    NBD_TRIM = 4,
    NBD_WRITE_ZEROES = 6,
};

#define NBD_FLAG_FUA 0x1u
#define NBD_FLAG_NO_HOLE 0x2u
#define NBD_FLAG_DF 0x4u

#define NBD_CHUNK_DONE 0x1u
#define NBD_CHUNK_OFFSET_DATA 1u
#define NBD_CHUNK_ERROR 0x8001u

struct nbd_request {
    uint16_t flags, command;
    uint64_t cookie; /* opaque: sent back as it came */
    uint64_t offset;
    uint32_t length;
};

#define NBD_REQUEST_SIZE 28u

static inline void nbd_put16(unsigned char *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof(value));
}

static inline void nbd_put32(unsigned char *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
}

static inline void nbd_put64(unsigned char *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}

static inline uint16_t nbd_get16(const unsigned char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return be16toh(value);
}

static inline uint32_t nbd_get32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static inline uint64_t nbd_get64(const unsigned char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

#endif
