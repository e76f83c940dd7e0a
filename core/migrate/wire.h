/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wire format, protocol version 2.  All integers are little-endian.  doc/protocol.md says the same
 * in prose.
 *
 *   destination                                            source
 *   ---- control stream --------------------------------------------
 *     HELLO {json: versions, role, features}        ->
 *                                                   <-     OFFER {json: token, VM, epoch, devices}
 *     HASHES of what is here already                ->
 *     ACCEPT {json: streams}  or  ABORT {json}      ->
 *   ---- further streams, each ---------------------------------------
 *     JOIN token, index                             ->
 *   ---- control stream ----------------------------------------------
 *                                                   <-     PASS device, pages, generation
 *   ---- bulk streams ------------------------------------------------
 *                                                   <-     DATA ZERO HAVE ...  MARK
 *   ---- control stream ----------------------------------------------
 *     ACK mark                                      ->
 *     READY (the VMM waits for state)               ->
 *                                                   <-     PASS (final), DATA (state), COMMIT epoch
 *     RESUMED epoch  or  REFUSED epoch              ->
 *   ---- demand stream -----------------------------------------------
 *     NEED device, range                            ->
 *                                                   <-     DATA
 *   ---- control stream ----------------------------------------------
 *                                                   <-     HASHES of all pages, SENT
 *     COMPLETE                                      ->
 *                                                   <-     DONE
 *   PING and PONG both ways at any time; ABORT ends the session before COMMIT.
 *
 * A destination whose link broke connects anew and says HELLO with the session's token.  The source answers
 * RESUME, in PASS frames which pass announced each page last, and a MARK, all on the control stream; the
 * destination says in PASS frames which pages it misses, then ACCEPT and JOINs as before.
 */
#ifndef MIGRATE_WIRE_H
#define MIGRATE_WIRE_H

#include <drafter/common.h>

#define WIRE_VERSION 2
#define WIRE_MAGIC UINT32_C(0x32465244) /* "DRF2" */
#define WIRE_HEADER_SIZE 48

/* Bounds on what a peer may make this side allocate or do. */
#define WIRE_DATA_MAX (1u << 20)
#define WIRE_JSON_MAX (1u << 16)
#define WIRE_CUSTOM_MAX (1u << 16)
#define WIRE_PAYLOAD_MAX (WIRE_DATA_MAX + (1u << 16))
#define WIRE_DEVICES_MAX 64
#define WIRE_STREAMS_MAX 16
#define WIRE_TOKEN_SIZE 16

enum wire_type {
    WIRE_HELLO = 1,    /* json */
    WIRE_OFFER = 2,    /* json */
    WIRE_ACCEPT = 3,   /* json */
    WIRE_ABORT = 4,    /* json {errno, step, text}; any time before COMMIT, both ways */
    WIRE_JOIN = 5,     /* payload: token; argument: stream index, 1 is the demand stream */
    WIRE_READY = 6,
    WIRE_PASS = 7,     /* device, generation; payload: page set */
    WIRE_MARK = 8,     /* argument: number of the mark */
    WIRE_ACK = 9,      /* argument: number of the mark that arrived on every bulk stream */
    WIRE_COMMIT = 10,  /* argument: epoch of the new owner; generation: the final pass */
    WIRE_RESUMED = 11, /* argument: epoch */
    WIRE_REFUSED = 12, /* argument: epoch; json {errno, step, text} */
    WIRE_SENT = 13,    /* every page was sent at least once in its final generation */
    WIRE_COMPLETE = 14, /* every page is here, durable, and its hash agrees */
    WIRE_DONE = 15,
    WIRE_PING = 16, /* argument: echoed in PONG */
    WIRE_PONG = 17,
    WIRE_HASHES = 18, /* device, offset; source: XXH3-64 per page; destination: BLAKE2b-128 per block */
    WIRE_RESUME = 19, /* json {committed, epoch}: the answer to a HELLO with a token */
    WIRE_CUSTOM = 20, /* what the operator sends along with the VM, ahead of COMMIT */

    WIRE_DATA = 32,  /* device, generation, offset; payload: bytes */
    WIRE_ZERO = 33,  /* device, generation, offset; argument: bytes that are zero */
    WIRE_HAVE = 34,  /* device, generation, offset; argument: bytes that the other side holds */
    WIRE_DELTA = 35, /* device, generation, offset; argument: base generation; payload: deltas */
    WIRE_NEED = 36,  /* device, offset; argument: bytes */
};

/* A frame's header as a program sees it; `length` bytes of payload follow it on the stream. */
struct wire_header {
    uint16_t type;
    uint16_t device;
    uint32_t length;
    uint32_t generation;
    uint64_t offset;
    uint64_t argument;
    uint64_t sequence; /* of the frame in its stream, from 0; the lower half of it travels */
};

/*
 * Writes the header's WIRE_HEADER_SIZE bytes, with the check of the header and the checksum (both XXH3
 * under `seed`) of the header and the payload.
 */
void wire_encode(const struct wire_header *header, uint64_t seed, const void *payload,
                 void *ret_bytes);

/*
 * Reads a header.  -EPROTO for a wrong magic, an unknown type, or a length beyond what the type
 * allows.  wire_check says whether it is to be believed, before anything is done with its length.
 */
int wire_decode(const void *bytes, struct wire_header *ret_header);

/* 0, or -EBADMSG when the header is not what was sent, or the sequence is not `sequence`. */
int wire_check(const void *bytes, uint64_t seed, uint64_t sequence);

/* 0, or -EBADMSG when header or payload is not what was sent. */
int wire_verify(const void *bytes, const struct wire_header *header, uint64_t seed,
                const void *payload);

const char *wire_type_name(unsigned type);

#endif
